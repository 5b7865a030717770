"""The application around the switch: stopped before it, started after it, asked whether it works, and watched."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from typing import Any

from lastgood import fault
from lastgood.application import health, hooks
from lastgood.application.results import ApplicationReport, HealthResult, HookResult
from lastgood.application.service import AGAIN, BEFORE, HookFailed, Service
from lastgood.errors import ChecksFailed, Failed
from lastgood.events import Progress
from lastgood.plan import Fence
from lastgood.run.context import Run


def facts_of(run: Run) -> dict[str, str]:
    """What hooks find in their environment. Never a password: the point is a path, the rest are names."""
    plan = run.plan
    return hooks.environment(run=plan.run, live=plan.live, kept=plan.kept, shadow=plan.shadow, point=plan.point.path)


def service_of(run: Run, *, whatever_the_disk_says: bool = True) -> Service:
    """The application of a run; what its hooks give goes into the run's journal and report. Before the switch nothing
    is done without a record; after it, and on the way back, users wait for the application, not for the record."""

    def told(result: HookResult) -> None:
        run.findings.hooks.append(result)
        with suppress(OSError) if whatever_the_disk_says else nullcontext():
            run.journal.write("hook", **result.model_dump(mode="json"))

    return Service(run.application, run.target, run.prepared.request.state, facts_of(run), run.emit, told)


def report_of(run: Run) -> ApplicationReport | None:
    """What is known of the application so far; None where nothing was to be done about it."""
    found = run.findings
    if not found.hooks and found.health is None and found.watch is None:
        return None
    return ApplicationReport(hooks=tuple(found.hooks), health=found.health, watch=found.watch)


def checks_failed(run: Run, problem: str) -> ChecksFailed:
    """The error for an application that does not work with the restored database."""
    plan = run.plan
    error = ChecksFailed(
        f"cannot confirm that the application works: {problem}",
        hint=f"Run: lastgood undo {plan.run} to go back, or lastgood resume {plan.run} to check it again.",
        state=f'"{plan.live}" is the restored database, in service; the previous one is kept as "{plan.kept}".',
        run=plan.run,
        problem=problem,
    )
    report = report_of(run)
    error.details = {"run": plan.run, "application": report.model_dump(mode="json") if report is not None else None}
    return error


class Stop:
    """With ``--fence now`` the application is stopped before anything else; with ``at-swap``, when all is proved. A
    run that is resumed and had stopped it leaves it so."""

    name = "stop"
    title = "stop the application"
    commits = False

    def __init__(self, when: Fence) -> None:
        self._when = when

    def wanted(self, run: Run) -> bool:
        """Whether this is the moment for it."""
        return run.application.stops and self._when == ("now" if run.stopped_before else run.plan.fence)

    def do(self, run: Run) -> Mapping[str, Any]:
        try:
            service_of(run, whatever_the_disk_says=False).stop(run.plan.run, "before the switch", run.cancelled)
        except HookFailed as error:
            raise Failed(
                f"cannot stop the application: {error}",
                hint="Mend the hook in lastgood.toml, or take it out to go on with the database's own fence alone.",
            ) from error
        fault.point("application.after_stop")
        return {"detail": ", ".join(name for name in BEFORE if run.application.command(name) is not None)}

    def undo(self, run: Run) -> None:
        service = service_of(run)
        if service.record is None or service.record.by != run.plan.run:
            return
        service.start_again("walking back")
        service.forget()
        run.findings.started_again = True

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        return False  # somebody may have started it since; hooks may run twice


class Start:
    """The switch is done: users may come back."""

    name = "start"
    title = "start the application"
    commits = False

    def wanted(self, run: Run) -> bool:
        """Whether there is a hook for it, or something to remember that was stopped."""
        return run.application.starts or run.application.stops

    def do(self, run: Run) -> Mapping[str, Any]:
        fault.point("application.before_start")
        service = service_of(run)
        try:
            service.start("after the switch", cancelled=run.cancelled)
        except HookFailed as error:
            raise checks_failed(run, f"it could not be started: {error}") from error
        if not run.application.checked:
            service.forget()
        return {"detail": ", ".join(name for name in AGAIN.values() if run.application.command(name) is not None)}

    def undo(self, run: Run) -> None:
        """Nothing to reverse: never walked back."""

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        return False  # hooks may run twice


class Checks:
    """Asks the application's health, then runs the smoke command."""

    name = "checks"
    title = "ask the application whether it works"
    commits = False

    def wanted(self, run: Run) -> bool:
        """Whether there is anything to ask."""
        return run.application.checked

    def do(self, run: Run) -> Mapping[str, Any]:
        said = []
        if run.application.health is not None:
            found = ask_health(run)
            said.append(f"healthy, {found.status} after {found.tries} tries" if found.tries > 1 else "healthy")
        service = service_of(run)
        if run.application.hooks.smoke is not None:
            try:
                service.hook("smoke", "after the switch", run.cancelled)
            except HookFailed as error:
                raise checks_failed(run, str(error)) from error
            said.append("smoke command passed")
        service.forget()
        return {"detail": ", ".join(said)}

    def undo(self, run: Run) -> None:
        """Nothing to reverse: it only looks."""

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        return False  # what was well in another process may not be so now


def ask_health(run: Run) -> HealthResult:
    """Raises ChecksFailed when the application is not well until the deadline."""

    def told(tries: int, last: HealthResult) -> None:
        run.emit(Progress("checks", tries, None, "tries", detail=last.problem))

    found = health.ask(run.application, run.cancelled, told)
    run.findings.health = found
    with suppress(OSError):
        run.journal.write("health", **found.model_dump(mode="json"))
    if found.problem:
        raise checks_failed(run, f"its health check {found.url} failed: {found.problem}")
    return found
