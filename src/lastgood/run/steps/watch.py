"""The watch of the server after the switch, compared with the figures before the run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from lastgood.application import figures, sentry
from lastgood.application.results import HealthResult, WatchResult
from lastgood.errors import Interrupted
from lastgood.events import Caution, Note, Progress
from lastgood.journal.reader import WATCH
from lastgood.plan.plan import PlannedStep, Request
from lastgood.postgres.exchange import current_names
from lastgood.postgres.lock import unlock
from lastgood.postgres.pressure.activity import Sample, sample
from lastgood.postgres.server import Connection
from lastgood.run.context import Run
from lastgood.run.runner import Result
from lastgood.run.steps.service import ask_health

# A server's counters are up to a second old.
LEAST_WINDOW = 1.0
RECENT_SECONDS = 600.0
INTERRUPTED = "ended early: interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted(Result):
    """The figures from before the swap, and the seconds that they cover; None where none could be read."""

    figures: Mapping[str, float | None]
    seconds: float | None

    @property
    def entry(self) -> Mapping[str, Any]:
        return {"figures": self.figures, "seconds": self.seconds}


class Before:
    """Record the figures for the comparison while the application still runs. A resumed run does not record them
    again."""

    name = "before"
    title = "record the server's figures"
    commits = False

    def wanted(self, run: Run) -> bool:
        """Whether there will be a watch."""
        return run.application.watch is not None and run.application.watch.length > 0

    def planned(self, request: Request) -> None:
        """Leave this step out of the plan: it only reads, and the line of the watch names the comparison."""

    def do(self, run: Run) -> Noted:
        found: dict[str, float | None] = {}
        seconds: float | None = None
        try:
            samples = _two_samples(run)
        except psycopg.Error as error:
            # A broken database must not stop its own rollback.
            run.emit(Note(f"the watch has no figures from before the switch: {str(error).strip().splitlines()[0]}"))
        else:
            if samples:
                found, seconds = figures.figures_of(samples), samples[-1].at - samples[0].at
        found["application_errors"] = _errors(run, RECENT_SECONDS)
        detail = f"figures of {seconds:.1f} s" if seconds is not None else "no figures"
        return Noted(figures=found, seconds=seconds, detail=detail)

    def undo(self, run: Run) -> None:
        """Do nothing: it only reads."""

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        run.keep(Noted(figures=dict(result.get("figures", {})), seconds=result.get("seconds")))
        return True


def _two_samples(run: Run) -> list[Sample]:
    """Return the sample of the plan and a later one, with the minimum interval between them."""
    first = run.prepared.sample
    with run.connected(run.plan.live, "watch") as inside:
        while first is not None and not run.cancelled():
            last = sample(run.maintenance, run.plan.live_oid, inside)
            if last is None or last.at - first.at >= LEAST_WINDOW:
                return [first, last] if last is not None else []
            time.sleep(0.1)  # there is no event for fresh counters
    return []


def _errors(run: Run, seconds: float) -> float | None:
    watch = run.application.watch
    if watch is None or watch.sentry is None:
        return None
    import httpx  # imported only for Sentry, because it is slow

    try:
        return sentry.rate(watch.sentry, seconds)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError, ImportError) as error:
        run.emit(Note(f"Sentry was not counted: {run.application.scrub(str(error)) or type(error).__name__}"))
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched(Result):
    """The result of the watch. ``health``: the health check at its end; None if there was none."""

    watch: WatchResult
    health: HealthResult | None

    @property
    def entry(self) -> Mapping[str, Any]:
        return self.watch.model_dump(mode="json")


class Watch:
    """Compare the server's figures with those from before. The watch changes nothing, and the rollback is done in any
    case; only a failed health check ends the run like a failed check of the application."""

    name = WATCH
    title = "watch the server"
    commits = False

    def wanted(self, run: Run) -> bool:
        """Whether a watch is configured."""
        return run.application.watch is not None and run.application.watch.length > 0

    def planned(self, request: Request) -> PlannedStep | None:
        """Describe this step in the plan if a watch is configured."""
        watch = request.application.watch
        if watch is None or not watch.length:
            return None
        return PlannedStep(
            name=self.name,
            title=f"Watch the server for {watch.length:g} s",
            effect="compared with the figures before the run; users do not notice, and it may be interrupted",
        )

    def do(self, run: Run) -> Watched:
        # An undo from another terminal must be possible during the watch.
        unlock(run.maintenance)
        found, health = _watched(run), None
        for figure in found.worse:
            after, before = (f"{_rounded(each)}{figure.unit}" for each in (figure.after, figure.before))
            run.emit(
                Caution(
                    f"{figure.title}: {after} after the switch, {before} before it; to undo: "
                    f"lastgood undo {run.plan.run}"
                )
            )
        if run.application.health is not None and not found.ended:
            try:
                health = ask_health(run, found)
            except Interrupted:
                found = found.model_copy(update={"ended": INTERRUPTED})
        if run.cancelled():
            run.carry_on()  # Ctrl+C ends only the watch
        detail = f"{len(found.worse)} of {len(found.figures)} figures worse" if found.worse else "no figure is worse"
        return Watched(watch=found, health=health, detail=found.ended or detail)

    def undo(self, run: Run) -> None:
        """Do nothing: it only reads."""

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        return False


def _watched(run: Run) -> WatchResult:
    watch = run.application.watch
    assert watch is not None
    samples: list[Sample] = []
    began, ended, oid = time.monotonic(), "", 0
    try:
        with run.server.connect(application_name=f"lastgood watch {run.plan.run}") as outside:
            oid = _oid(outside, run.plan.live)
            with run.connected(run.plan.live, "watch") as inside:
                while True:
                    found = sample(outside, oid, inside)
                    if found is None or current_names(outside, [oid]).get(oid) != run.plan.live:
                        ended = "ended early: the databases were switched meanwhile"
                        break
                    samples.append(found)
                    passed = time.monotonic() - began
                    length = max(1, int(watch.length))
                    run.emit(Progress("watch", min(int(passed), length), length, "seconds", detail=_now(samples)))
                    if passed >= watch.length:
                        break
                    if _cancelled_within(run, min(watch.every, watch.length - passed)):
                        ended = INTERRUPTED
                        break
    except psycopg.Error as error:
        # An undo terminates this session.
        ended = (
            INTERRUPTED
            if run.cancelled()
            else f"ended early: {run.application.scrub(str(error).strip().splitlines()[0])}"
        )
    seconds = time.monotonic() - began
    after = figures.figures_of(samples) if len(samples) > 1 else {}
    if not ended:
        after["application_errors"] = _errors(run, seconds)
    noted = run.result(Noted)
    return WatchResult(
        seconds=round(seconds, 3),
        samples=len(samples),
        before_seconds=noted.seconds if noted is not None else None,
        figures=figures.compare(noted.figures if noted is not None else {}, after, watch.factor) if after else (),
        ended=ended,
    )


def _oid(connection: Connection, name: str) -> int:
    row = connection.execute("SELECT oid::int8 FROM pg_catalog.pg_database WHERE datname = %s", [name]).fetchone()
    return int(row[0]) if row is not None else 0


def _now(samples: list[Sample]) -> str:
    last = samples[-1]
    parts = [f"{last.connections} connections", f"{last.lock_waits} waiting for locks"]
    rolled_back = figures.figures_of(samples)["rollbacks"] if len(samples) > 1 else None
    if rolled_back is not None:
        parts.insert(0, f"{rolled_back:.1f} rolled back/s")
    return ", ".join(parts)


def _cancelled_within(run: Run, seconds: float) -> bool:
    """Wait ``seconds``, or until the run is to stop; whether it is."""
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        if run.cancelled():
            return True
        time.sleep(min(0.1, max(0.0, over - time.monotonic())))
    return False


def _rounded(value: float | None) -> str:
    return f"{value:.3g}" if value is not None else "?"
