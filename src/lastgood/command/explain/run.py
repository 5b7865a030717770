"""A run explained from its journal: its steps, where it stopped, and the state of the database.

For a deployment: whether it was deployed, rolled back, or needs an operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from lastgood.command.explain.explain import Explained, explain
from lastgood.errors import NOT_REACHED, Refused
from lastgood.journal import JOURNAL_ERRORS, Journal
from lastgood.journal.reader import CALLER_EVENTS, SWAP, Entry, RunHistory, read_run
from lastgood.models import Frozen
from lastgood.run import steps

UNDO_TITLE = "switch the names back"


class StepStory(Frozen):
    """One step of a run. ``begun`` without ``done``: the step may have happened. ``at``: the time of the last entry."""

    name: str
    title: str
    state: Literal["begun", "done", "undone", "undo failed"]
    at: datetime


Outcome = Literal["done", "reverted", "aborted", "undone", "failed", "stopped", "switched", "unknown"]
# The statuses of a process that did not finish its run. The outcome of the run follows from its steps.
_NOT_FINAL = ("failed", "stopped", "interrupted")
_ENDS: Mapping[str, Outcome] = {"done": "done", "aborted": "aborted", "undone": "undone"}
# Kinds of runs without a switch: their journals have no steps, and the end entry has the outcome.
_WITHOUT_SWITCH = ("maintenance", "restore", "prune", "recover", "validate", "abort", "drill", "deploy", "salvage")
# Kinds of runs that are not chosen by default.
_NOT_BY_DEFAULT = ("maintenance", "prune", "validate")


class RunStory(Frozen):
    """The story of a run. ``outcome``: ``done``, ``reverted`` (failed, the live database as it was), ``aborted``,
    ``undone`` (the application did not work with the restored database), ``failed`` (a run without a switch),
    ``stopped`` (before the switch), ``switched`` (after it, not finished), ``unknown`` (during the switch, or still
    active). ``state``: a sentence about it. ``reason``: why it failed, "" if it did not; ``failed_in``: the steps in
    progress at that time; ``explained``: the meaning of the reason.
    """

    run: str
    kind: str
    journal: str
    live: str
    point: str
    begun: datetime
    last: datetime
    outcome: Outcome
    steps: tuple[StepStory, ...]
    failed_in: tuple[str, ...]
    reason: str
    state: str
    commands: tuple[str, ...]
    explained: Explained | None


def titles() -> dict[str, str]:
    """Return the titles of the steps of rollbacks and deployments by name."""
    return {**steps.titles(), **TITLES}


def newest(state: Path) -> str | None:
    """Return the name of the newest run with a journal on this machine, skipping runs that did not change the
    database."""
    return next((each.run for each in Journal.newest(state) if each.kind not in _NOT_BY_DEFAULT), None)


def explain_run(state: Path, name: str) -> RunStory:
    """Explain a run from its journal. Raises Refused if this machine has no journal of it, or an empty one."""
    journal = Journal.find(state, name)
    if journal is None:
        raise Refused(
            f'cannot explain run "{name}": this machine has no journal of it',
            hint=f'Journals are in "{state / "runs"}" of the machine that ran it (--state names another folder); '
            "to query the server: lastgood status",
            state=NOT_REACHED,
        )
    try:
        history = read_run(journal)
        if history is not None:
            return story_of(history)
    except JOURNAL_ERRORS as error:
        raise Refused(
            f'cannot explain run "{name}": its journal is damaged ({type(error).__name__})',
            hint=f'Inspect the file "{journal.path}". To show the current state: lastgood status',
            state=NOT_REACHED,
        ) from error
    raise Refused(
        f'cannot explain run "{name}": its journal is empty, so the run changed nothing',
        hint="To show the current state: lastgood status",
        state=NOT_REACHED,
    )


def story_of(history: RunHistory) -> RunStory:
    """Return the story of a run from its journal."""
    kind = history.kind
    steps_taken = _steps(history)
    last = _end(history)
    ended = last if last is not None and last.status not in _NOT_FINAL else None
    failed = history.last("failed")
    if ended is None and failed is not None:
        reason = failed.reason or failed.text("error")
    else:
        reason = str(last.error.get("message", "")) if last is not None else ""
    outcome: Outcome
    if kind == "deploy":
        outcome, state, commands = deployment_outcome(history)
    else:
        outcome = _outcome(kind, {each.name: each for each in steps_taken}, ended, failed, last)
        state, commands = _state(outcome, kind, history.run, history.live, kept_words(history.plan))
    return RunStory(
        run=history.run,
        kind=kind,
        journal=str(history.path),
        live=history.live,
        point=history.point,
        begun=history.first.at,
        last=history.entries[-1].at,
        outcome=outcome,
        steps=tuple(steps_taken),
        failed_in=_in_progress(history, failed) if failed is not None and ended is None else (),
        reason=reason,
        state=state,
        commands=commands,
        explained=explain(BytesIO(reason.encode()), "the run's error") if reason else None,
    )


def _end(history: RunHistory) -> Entry | None:
    """Return the end entry of the last process of the run, if there is one."""
    last = history.last(*CALLER_EVENTS, "ended")
    return last if last is not None and last.event == "ended" else None


_STATES: Mapping[str, Literal["begun", "done", "undone", "undo failed"]] = {
    "doing": "begun",
    "done": "done",
    "undone": "undone",
    "undo failed": "undo failed",
}


def _steps(history: RunHistory) -> list[StepStory]:
    titles_by_step = titles()
    steps: dict[str, StepStory] = {}
    for each in history.of(*_STATES):
        title = UNDO_TITLE if history.kind == "undo" else titles_by_step.get(each.step, each.step)
        steps[each.step] = StepStory(name=each.step, title=title, state=_STATES[each.event], at=each.at)
    return list(steps.values())


def _in_progress(history: RunHistory, failed: Entry) -> tuple[str, ...]:
    """Return the steps that had begun and were not done when the failure was recorded."""
    open_steps: dict[str, None] = {}
    for each in history.entries:
        if each is failed:
            break
        if each.event == "doing":
            open_steps[each.step] = None
        elif each.event in ("done", "undone"):
            open_steps.pop(each.step, None)
    return tuple(open_steps)


def _outcome(
    kind: str,
    steps: Mapping[str, StepStory],
    ended: Entry | None,
    failed: Entry | None,
    last: Entry | None,
) -> Outcome:
    if kind == "finish":
        return "done" if ended is not None else "switched"
    if ended is not None:
        return _ENDS.get(ended.status, "failed")  # deployments and drills have statuses of their own
    if kind in _WITHOUT_SWITCH and last is not None:
        return "failed"
    if last is not None and last.status in ("failed", "interrupted") and last.error.get("exit_status", 1) != 1:
        return "reverted"  # verified on the server by the failed process
    swap = steps.get(SWAP)
    if swap is not None and swap.state == "done":
        return "switched"
    if swap is not None and swap.state == "begun":
        return "unknown"
    if any(each.state == "undo failed" for each in steps.values()):
        return "stopped"
    if failed is not None and all(each.state == "undone" for each in steps.values()):
        return "reverted"
    return "stopped"


def kept_words(plan: Mapping[str, Any]) -> str:
    """Return what a switch keeps, in words: a database, or the objects of schemas."""
    name = plan.get("kept", "")
    if plan.get("way") == "in-place":
        return f'objects are kept in the schemas "{name}"'
    return f'one is kept as "{name}"'


def _state(outcome: str, kind: str, run: str, live: str, kept: str) -> tuple[str, tuple[str, ...]]:
    """Return the sentence and the next commands. ``kept``: see ``kept_words``."""
    if kind == "finish":  # another machine has the journal of the rollback itself
        if outcome == "done":
            return f'The deferred work is done: "{live}" is complete.', ("lastgood status",)
        return (
            f'"{live}" is the restored database, in service. The deferred work is not finished, or still active.',
            ("lastgood status", f"lastgood resume {run}   # continues it"),
        )
    if kind == "salvage" and outcome == "done":
        return (
            f'The salvage is done: its rows are in "{live}".',
            ("lastgood status", f"lastgood salvage undo {run}   # as long as its rows are unchanged"),
        )
    if kind == "salvage" and outcome != "failed":
        return (
            f'The journal ends before the result: either all rows of the salvage are in "{live}", or none.',
            ("lastgood salvage   # shows which rows are missing",),
        )
    if outcome == "done" and kind == "undo":
        return (
            f'The undo is done: "{live}" is again the database from before the rollback, and the replaced {kept}.',
            ("lastgood status", f"lastgood undo {run}   # undoes the undo"),
        )
    if outcome == "done" and kind != "rollback":
        return (f'The {kind} is done; "{live}" was not touched by it.', ("lastgood status",))
    if outcome == "done":
        return (
            f'The rollback is done: "{live}" is the restored database, and the previous {kept}.',
            ("lastgood status", f"lastgood undo {run}   # restores the previous database"),
        )
    if outcome == "undone":
        return (
            f'The application did not work with the restored database, and the switch was undone: "{live}" is again '
            "the previous database.",
            ("lastgood status",),
        )
    if outcome == "failed":
        return (f'The {kind} failed; "{live}" was not touched by it.', ("lastgood status",))
    if outcome == "aborted":
        return (f'The run was aborted before the switch: "{live}" was not touched.', ("lastgood status",))
    if outcome == "reverted" and kind == "undo":
        return (f'The undo failed: "{live}" was not touched.', ("lastgood status", "lastgood undo   # tries again"))
    if outcome == "reverted":
        return (
            f'The rollback failed, and its changes were reverted: "{live}" was not touched.',
            ("lastgood status", "lastgood rollback --dry-run   # when the cause is fixed"),
        )
    if outcome == "switched":
        return (
            f'The run stopped after the switch: "{live}" is the restored database, and the previous {kept}.',
            (f"lastgood resume {run}   # finishes it", f"lastgood undo {run}   # rolls back"),
        )
    if outcome == "unknown":
        return (
            f'The journal ends in the middle of the switch: "{live}" is either as it was or fully switched, never in '
            "between. To verify which: lastgood status",
            ("lastgood status",) if kind == "undo" else ("lastgood status", f"lastgood resume {run}"),
        )
    return (
        f'The journal ends before the switch: "{live}" was not touched. The run is still active, or was stopped.',
        (
            "lastgood status   # shows whether it is active",
            f"lastgood resume {run}   # continues it",
            f"lastgood abort {run}   # reverts it",
        ),
    )


TITLES = {"migrate": "run the migration"}
_STATUS = "lastgood status   # shows the current state"


def deployment_outcome(
    history: RunHistory,
) -> tuple[Literal["done", "reverted", "undone", "stopped"], str, tuple[str, ...]]:
    """Return the outcome of a deployment, a sentence about it, and the next commands."""
    begun, ended, run, live = next(history.of("begun"), None), history.ended, history.run, history.live
    if begun is not None and begun.fields.get("dry_run"):
        if ended is not None and ended.status == "stopped":
            return "stopped", str(ended.error["state"]), (_STATUS, str(ended.error["hint"]))
        state = f'The deployment was a trial on a clone: "{live}" was not touched.'
        return ("done" if ended is not None and ended.status == "done" else "reverted"), state, (_STATUS,)
    point = next((each.text("path") for each in history.of("point")), "")
    report: Mapping[str, Any] = ended.report if ended is not None else {}
    status = report.get("status")
    if status == "deployed":
        return (
            "done",
            f'"{live}" was migrated, and no check is worse than before.',
            (_STATUS, f"lastgood rollback {point}   # restores the state before the deployment"),
        )
    if status == "rolled back":
        kept = report.get("kept")
        state = f'The deployment failed, and "{live}" was rolled back to the restore point from before it.'
        undo = (f"{report['undo_command']}   # restores the replaced database",) if kept else ()
        return "undone", state, (_STATUS, *undo)
    if status == "unchanged":
        return "reverted", f'The deployment failed: "{live}" is as it was before.', (_STATUS,)
    if status == "not rolled back":
        state = f'The deployment failed and could not be rolled back: "{live}" is as the migration left it.'
        return "stopped", state, (_STATUS, "lastgood recover", f"lastgood rollback {point}")
    migrated = any(each.step == "migrate" for each in history.of("doing"))
    if not point or (ended is not None and not migrated):
        return "reverted", f'The deployment ended before the migration: "{live}" was not touched.', (_STATUS,)
    return (
        "stopped",
        f'The journal ends after the migration began: "{live}" is as the migration left it. The deployment is '
        "still active, or was killed.",
        (_STATUS, "lastgood recover   # rolls back to its restore point", f"lastgood deploy --accept {run}"),
    )
