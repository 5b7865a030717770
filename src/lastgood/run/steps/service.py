"""The application around the switch: stopped before it, started, checked and watched after it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lastgood import fault
from lastgood.application import health
from lastgood.application.results import ApplicationReport, HealthResult, WatchResult
from lastgood.application.service import COUNTERPARTS, STOP_HOOKS, HookFailed
from lastgood.errors import ChecksFailed, Failed, restored
from lastgood.events import Caution, Progress, StageDone, StageStarted
from lastgood.plan.plan import Fence, PlannedStep, Request
from lastgood.run.context import Reversal, Run
from lastgood.run.runner import Result

_ON_FAILURE = {
    "undo": "the switch is undone",
    "ask": "you are asked whether to undo the switch",
    "keep": "the restored database remains in service, and undo is possible",
}


def application_report(run: Run, health: HealthResult | None, watch: WatchResult | None) -> ApplicationReport | None:
    """Return the hooks that ran, the last health check and the watch; None if there was none."""
    hooks = run.service.results
    if not hooks and health is None and watch is None:
        return None
    return ApplicationReport(hooks=tuple(hooks), health=health, watch=watch)


def checks_failed(
    run: Run, problem: str, health: HealthResult | None = None, watch: WatchResult | None = None
) -> ChecksFailed:
    """Return the error for an application that does not work with the restored database."""
    plan = run.plan
    in_place = plan.way == "in-place"
    error = ChecksFailed(
        f"cannot confirm that the application works: {problem}",
        hint=f"To undo the switch: lastgood undo {plan.run}; to repeat the checks: lastgood resume {plan.run}",
        state=restored(plan.live, plan.kept, in_place=in_place, detail=", in service"),
        run=plan.run,
        problem=problem,
        in_place=in_place,
    )
    report = application_report(run, health, watch)
    error.details = {"run": plan.run, "application": report.model_dump(mode="json") if report is not None else None}
    return error


class Stop:
    """Stop the application: with ``--fence now`` before anything else, with ``at-swap`` after the proof. A resumed run
    that had stopped it leaves it stopped."""

    name = "stop"
    title = "stop the application"
    commits = False

    def __init__(self, when: Fence) -> None:
        self._when = when

    def wanted(self, run: Run) -> bool:
        """Whether the application is stopped at this stage."""
        return run.application.stops and self._when == ("now" if run.stopped_before else run.plan.fence)

    def planned(self, request: Request) -> PlannedStep | None:
        """Describe this step in the plan at the moment that ``--fence`` chooses."""
        if not request.application.stops or self._when != request.fence:
            return None
        return PlannedStep(
            name=self.name,
            title="Stop the application" if request.application.hooks.stop else "Turn maintenance mode on",
            effect=f"{'' if self._when == 'now' else 'as late as possible: '}outage begins",
        )

    def do(self, run: Run) -> Result:
        try:
            run.service.stop(run.plan.run, "before the switch", run.cancelled)
        except HookFailed as error:
            raise Failed(
                f"cannot stop the application: {error}",
                hint="Fix the hook in lastgood.toml, or remove it to continue with the database's own fence alone.",
            ) from error
        fault.point("application.after_stop")
        return Result(detail=", ".join(name for name in STOP_HOOKS if run.application.command(name) is not None))

    def undo(self, run: Run) -> None:
        stopped = run.service.record
        if stopped is None or stopped.by != run.plan.run:
            return
        run.service.start_again("reverting")
        run.service.forget()
        run.started_again = True

    def reverse(self, back: Reversal) -> None:
        """Start the application, whether this run stopped it or not: it may cache what the switch replaced."""
        if self._when != "now":
            return  # the other step of this class starts it, at the very end
        fault.point("application.before_start_again")
        if back.application.starts:
            back.emit(StageStarted("start", "start the application again"))
            try:
                back.service.start("after the undo")
            except HookFailed as error:
                back.not_running = str(error)
                return
            back.emit(StageDone("start", back.service.results[-1].seconds))
        back.service.forget()

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        return False  # the application may have been started since; hooks may run twice


class Start:
    """Start the application after the switch."""

    name = "start"
    title = "start the application"
    commits = False

    def wanted(self, run: Run) -> bool:
        """Whether there is a start hook, or a record of the stop to remove."""
        return run.application.starts or run.application.stops

    def planned(self, request: Request) -> PlannedStep | None:
        """Describe this step in the plan where a hook starts the application."""
        if not request.application.starts:
            return None
        return PlannedStep(
            name=self.name,
            title="Start the application" if request.application.hooks.start else "Turn maintenance mode off",
            effect="outage ends",
        )

    def do(self, run: Run) -> Result:
        fault.point("application.before_start")
        try:
            run.service.start("after the switch", cancelled=run.cancelled)
        except HookFailed as error:
            raise checks_failed(run, f"it could not be started: {error}") from error
        if not run.application.checked:
            run.service.forget()
        return Result(
            detail=", ".join(name for name in COUNTERPARTS.values() if run.application.command(name) is not None)
        )

    def undo(self, run: Run) -> None:
        """Do nothing: after the commit point, ``reverse`` undoes this step."""

    def reverse(self, back: Reversal) -> None:
        """Stop the application. A failure is not an obstacle, because the application does not work."""
        if not back.application.stops:
            return
        back.emit(StageStarted("stop", "stop the application"))
        try:
            back.service.stop(back.run, "before the undo")
        except (HookFailed, OSError) as error:
            back.emit(Caution(f"{error}; continuing with the undo"))
        else:
            back.emit(StageDone("stop", sum(each.seconds for each in back.service.results)))

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        return False  # hooks may run twice


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked(Result):
    """The application passed its checks. ``health``: its last health check; None where none is configured."""

    health: HealthResult | None


class Checks:
    """Run the health check of the application, then the smoke command."""

    name = "checks"
    title = "check whether the application works"
    commits = False

    def wanted(self, run: Run) -> bool:
        """Whether a check is configured."""
        return run.application.checked

    def planned(self, request: Request) -> PlannedStep | None:
        """Describe this step in the plan: the checks, and the consequence of a failure."""
        application = request.application
        if not application.checked:
            return None
        checks = [
            *(["its health check runs"] if application.health is not None else []),
            *(["the smoke command runs"] if application.hooks.smoke is not None else []),
        ]
        return PlannedStep(
            name=self.name,
            title="Check whether the application works",
            effect=f"{' and '.join(checks)}; on failure {_ON_FAILURE[application.on_failure]}",
        )

    def do(self, run: Run) -> Checked:
        results, found = [], None
        if run.application.health is not None:
            found = ask_health(run)
            results.append(f"healthy, {found.status} after {found.tries} tries" if found.tries > 1 else "healthy")
        if run.application.hooks.smoke is not None:
            try:
                run.service.hook("smoke", "after the switch", run.cancelled)
            except HookFailed as error:
                raise checks_failed(run, str(error), found) from error
            results.append("smoke command passed")
        run.service.forget()
        return Checked(health=found, detail=", ".join(results))

    def undo(self, run: Run) -> None:
        """Do nothing: it only reads."""

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        return False  # the application may have failed since


def ask_health(run: Run, watch: WatchResult | None = None) -> HealthResult:
    """Run the health check until it passes. Raises ChecksFailed at the deadline, with the result of a ``watch``."""

    def report_progress(tries: int, last: HealthResult) -> None:
        run.emit(Progress("checks", tries, None, "tries", detail=last.problem))

    found = health.check_health(run.application, run.cancelled, report_progress)
    with suppress(OSError):
        run.journal.write("health", **found.model_dump(mode="json"))
    if found.problem:
        raise checks_failed(run, f"its health check {found.url} failed: {found.problem}", found, watch)
    return found
