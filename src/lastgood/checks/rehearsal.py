"""The last rehearsal of a restore on this machine, and the expected duration of the run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, timedelta

from lastgood.checklist import Finding, Passed
from lastgood.checks.subject import Subject
from lastgood.journal.past_runs import KIND_TITLES
from lastgood.text.units import ago, day, duration, roughly, span


def rehearsed(s: Subject) -> Iterator[Finding | Passed]:
    """The newest run on this machine that restored this database, as a rollback or a rehearsal."""
    within = s.request.drill.every
    if not s.past:
        yield Finding(
            level="caution",
            code="never_rehearsed",
            text=f'this machine has no record of a restore of "{s.database.name}"',
            hint="Rehearse it: lastgood drill. Or confirm it yourself: --attest rehearsal=NAME",
            known="unknown",
        )
        return
    last = s.past[0]
    text = f"{KIND_TITLES[last.kind]} on {day(last.at)}, {ago(last.at, s.now)}, in {duration(last.seconds)}"
    if s.now - last.at > timedelta(seconds=within):
        yield Finding(
            level="caution",
            code="rehearsed_long_ago",
            text=f"last {text}; [drill] every is {span(within)}",
            hint="Rehearse it: lastgood drill",
            known="measured",
        )
    else:
        yield Passed(text=f"last {text} (run {last.run})", known="measured")


def expected(s: Subject) -> Iterator[Finding | Passed]:
    """The expected duration: from earlier loads on this server, else from the last run, in proportion to the size."""
    seconds, source = expectation(s)
    if seconds is None:
        yield Finding(
            level="note",
            code="no_expectation",
            text="no estimate: this machine has not completed a run yet",
            known="unknown",
        )
    else:
        until = (s.now + timedelta(seconds=seconds)).astimezone(UTC)
        yield Passed(text=f"expected: {roughly(seconds)}, {source}; if started now, finished by {until:%H:%M:%S} UTC")


def expectation(s: Subject) -> tuple[float | None, str]:
    """Seconds until the switch, and the source of the estimate."""
    if s.until_the_switch is not None:
        return s.until_the_switch, "by earlier runs on this server"
    size = s.point.size if s.point is not None else 0
    for run in s.past:
        if run.bytes and size:
            return run.seconds * size / run.bytes, f"by run {run.run}, in proportion to the size"
    return None, ""
