"""A run of ours explained from its journal: what it did, where it stopped, in what state it left the database.

A deployment explained from its journal: whether it was deployed, taken back, or left for a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from lastgood.command.explain.explained import Explained, explain
from lastgood.errors import NOT_REACHED, Refused
from lastgood.journal import SENSELESS, Journal
from lastgood.journal.reader import CAME, SWAP, Entry, Recorded, recorded
from lastgood.models import Frozen
from lastgood.run import steps

_BACK = "switch the names back"


class Step(Frozen):
    """One step of a run. ``begun`` and not yet ``done``: it may have happened. ``at`` is the last thing known of it."""

    name: str
    title: str
    state: Literal["begun", "done", "undone", "undo failed"]
    at: datetime


Outcome = Literal["done", "walked_back", "aborted", "undone", "failed", "stopped", "switched", "unknown"]
# How a process ended that left its run to others, or walked it back: what became of the run its steps tell.
_NOT_THE_END = ("failed", "stopped", "interrupted")
_ENDS: Mapping[str, Outcome] = {"done": "done", "aborted": "aborted", "undone": "undone"}
# What has no switch: its journal has no steps, and tells by itself how it ended.
_PLAIN = ("maintenance", "restore", "prune", "recover", "validate", "abort", "drill", "deploy")
# What nobody means who names no run.
_ASIDE = ("maintenance", "prune", "validate")


class RunStory(Frozen):
    """What a journal tells. ``outcome``: ``done``, ``walked_back`` (failed, the live database as it was), ``aborted``,
    ``undone`` (the application did not work with the restored database), ``failed`` (something without a switch),
    ``stopped`` (before the switch), ``switched`` (after it, not finished), ``unknown`` (at the switch, or at work).
    ``state`` says it in a sentence. ``reason`` is why it failed, "" when it did not, ``failed_in`` the steps that were
    at work then, and ``explained`` what that means.
    """

    run: str
    kind: str
    journal: str
    live: str
    point: str
    begun: datetime
    last: datetime
    outcome: Outcome
    steps: tuple[Step, ...]
    failed_in: tuple[str, ...]
    reason: str
    state: str
    commands: tuple[str, ...]
    explained: Explained | None


def titles() -> dict[str, str]:
    """Title by name of every step that a journal may have: those of a rollback and of a deployment."""
    return {**steps.titles(), **TITLES}


def newest(state: Path) -> str | None:
    """The name of the newest run that has a journal here. What only looked or tidied up is passed over: whoever names
    none means what was done to the database."""
    return next((each.run for each in Journal.newest(state) if each.kind not in _ASIDE), None)


def explain_run(state: Path, name: str) -> RunStory:
    """Reads the journal of a run. Raises Refused when this machine has none of it, or one that says nothing."""
    journal = Journal.find(state, name)
    if journal is None:
        raise Refused(
            f'cannot explain run "{name}": this machine has no journal of it',
            hint=f'Journals are in "{state / "runs"}" of the machine that ran it (--state names another folder); '
            "lastgood status asks the server.",
            state=NOT_REACHED,
        )
    try:
        found = recorded(journal)
        if found is not None:
            return story_of(found)
    except SENSELESS as error:
        raise Refused(
            f'cannot explain run "{name}": its journal is damaged ({type(error).__name__})',
            hint=f'Inspect it: "{journal.path}". The current state: lastgood status.',
            state=NOT_REACHED,
        ) from error
    raise Refused(
        f'cannot explain run "{name}": its journal is empty, so it ended before it did anything',
        hint="Look at lastgood status.",
        state=NOT_REACHED,
    )


def story_of(found: Recorded) -> RunStory:
    """The story of a run, from its journal."""
    kind = found.kind
    taken = _steps(found)
    last = _end(found)
    ended = last if last is not None and last.status not in _NOT_THE_END else None
    failed = found.last("failed")
    if ended is None and failed is not None:
        reason = failed.reason or failed.text("error")
    else:
        reason = str(last.error.get("message", "")) if last is not None else ""
    outcome: Outcome
    if kind == "deploy":
        outcome, said, commands = told(found)
    else:
        outcome = _outcome(kind, {each.name: each for each in taken}, ended, failed, last)
        said, commands = _state(outcome, kind, found.run, found.live, str(found.plan.get("kept", "")))
    return RunStory(
        run=found.run,
        kind=kind,
        journal=str(found.path),
        live=found.live,
        point=found.point,
        begun=found.first.at,
        last=found.entries[-1].at,
        outcome=outcome,
        steps=tuple(taken),
        failed_in=_at_work(found, failed) if failed is not None and ended is None else (),
        reason=reason,
        state=said,
        commands=commands,
        explained=explain(BytesIO(reason.encode()), "the run's error") if reason else None,
    )


def _end(found: Recorded) -> Entry | None:
    """How the last process that worked on it ended, if it could say so."""
    last = found.last(*CAME, "ended")
    return last if last is not None and last.event == "ended" else None


_STATES: Mapping[str, Literal["begun", "done", "undone", "undo failed"]] = {
    "doing": "begun",
    "done": "done",
    "undone": "undone",
    "undo failed": "undo failed",
}


def _steps(found: Recorded) -> list[Step]:
    known = titles()
    steps: dict[str, Step] = {}
    for each in found.of(*_STATES):
        title = _BACK if found.kind == "undo" else known.get(each.step, each.step)
        steps[each.step] = Step(name=each.step, title=title, state=_STATES[each.event], at=each.at)
    return list(steps.values())


def _at_work(found: Recorded, failed: Entry) -> tuple[str, ...]:
    """Steps that were announced before the failure and not done by then."""
    open_steps: dict[str, None] = {}
    for each in found.entries:
        if each is failed:
            break
        if each.event == "doing":
            open_steps[each.step] = None
        elif each.event in ("done", "undone"):
            open_steps.pop(each.step, None)
    return tuple(open_steps)


def _outcome(
    kind: str,
    steps: Mapping[str, Step],
    ended: Entry | None,
    failed: Entry | None,
    last: Entry | None,
) -> Outcome:
    if kind == "finish":
        return "done" if ended is not None else "switched"
    if ended is not None:
        return _ENDS.get(ended.status, "failed")  # deployments and drills have words of their own for it
    if kind in _PLAIN and last is not None:
        return "failed"
    if last is not None and last.status in ("failed", "interrupted") and last.error.get("exit_status", 1) != 1:
        return "walked_back"  # the server was asked, and it said so
    swap = steps.get(SWAP)
    if swap is not None and swap.state == "done":
        return "switched"
    if swap is not None and swap.state == "begun":
        return "unknown"
    if any(each.state == "undo failed" for each in steps.values()):
        return "stopped"
    if failed is not None and all(each.state == "undone" for each in steps.values()):
        return "walked_back"
    return "stopped"


def _state(outcome: str, kind: str, run: str, live: str, kept: str) -> tuple[str, tuple[str, ...]]:
    """The sentence, and what to run next."""
    if kind == "finish":  # another machine has the journal of the rollback itself
        if outcome == "done":
            return f'The deferred work is done: "{live}" is complete.', ("lastgood status",)
        return (
            f'"{live}" is the restored database, in service. The deferred work is not finished, or still active.',
            ("lastgood status", f"lastgood resume {run}   # continues it"),
        )
    if outcome == "done" and kind == "undo":
        return (
            f'The undo is done: "{live}" is again the database from before the rollback, and the database that it '
            f'replaced is kept as "{kept}".',
            ("lastgood status", f"lastgood undo {run}   # undoes the undo"),
        )
    if outcome == "done" and kind != "rollback":
        return (f'The {kind} is done; "{live}" was not touched by it.', ("lastgood status",))
    if outcome == "done":
        return (
            f'The rollback is done: "{live}" is the restored database, and the previous one is kept as "{kept}".',
            ("lastgood status", f"lastgood undo {run}   # goes back to the previous database"),
        )
    if outcome == "undone":
        return (
            f'The application did not work with the restored database, and the switch was undone: "{live}" is what it '
            "was before.",
            ("lastgood status",),
        )
    if outcome == "failed":
        return (f'The {kind} failed; "{live}" was not touched by it.', ("lastgood status",))
    if outcome == "aborted":
        return (f'It was aborted before the switch: "{live}" was not touched by it.', ("lastgood status",))
    if outcome == "walked_back" and kind == "undo":
        return (f'It failed: "{live}" was not touched.', ("lastgood status", "lastgood undo   # tries it again"))
    if outcome == "walked_back":
        return (
            f'It failed and was walked back: "{live}" was not touched.',
            ("lastgood status", "lastgood rollback --dry-run   # when the cause is fixed"),
        )
    if outcome == "switched":
        return (
            f'It stopped after the switch: "{live}" is the restored database, and the previous one is kept as '
            f'"{kept}".',
            (f"lastgood resume {run}   # finishes it", f"lastgood undo {run}   # goes back"),
        )
    if outcome == "unknown":
        return (
            f'The journal ends in the middle of the switch: "{live}" is either as it was or fully switched, never in '
            "between. The server knows which.",
            ("lastgood status",) if kind == "undo" else ("lastgood status", f"lastgood resume {run}"),
        )
    return (
        f'The journal ends before the switch: "{live}" was not touched. The run is still active, or was stopped.',
        (
            "lastgood status   # shows whether it is active",
            f"lastgood resume {run}   # continues it",
            f"lastgood abort {run}   # walks it back",
        ),
    )


TITLES = {"migrate": "run the migration"}
_LATER = "lastgood status   # shows the current state"


def told(found: Recorded) -> tuple[Literal["done", "walked_back", "undone", "stopped"], str, tuple[str, ...]]:
    """The outcome, a sentence about it, and what to run next."""
    begun, ended, run, live = next(found.of("begun"), None), found.ended, found.run, found.live
    if begun is not None and begun.fields.get("dry_run"):
        if ended is not None and ended.status == "stopped":
            return "stopped", str(ended.error["state"]), (_LATER, str(ended.error["hint"]))
        state = f'It was a trial on a clone: "{live}" was not touched.'
        return ("done" if ended is not None and ended.status == "done" else "walked_back"), state, (_LATER,)
    point = next((each.text("path") for each in found.of("point")), "")
    report: Mapping[str, Any] = ended.report if ended is not None else {}
    status = report.get("status")
    if status == "deployed":
        return (
            "done",
            f'"{live}" was migrated, and was no worse than before.',
            (_LATER, f"lastgood rollback {point}   # goes back to the time before it"),
        )
    if status == "rolled back":
        kept = report.get("kept")
        state = f'The deployment failed, and "{live}" was put back to the restore point that was made before it.'
        undo = (f"{report['undo_command']}   # brings back what was replaced",) if kept else ()
        return "undone", state, (_LATER, *undo)
    if status == "unchanged":
        return "walked_back", f'The deployment failed: "{live}" was kept as it was before it.', (_LATER,)
    if status == "not rolled back":
        state = f'The deployment failed and could not be taken back: "{live}" is as the migration left it.'
        return "stopped", state, (_LATER, "lastgood recover", f"lastgood rollback {point}")
    if not point:
        return "walked_back", f'It ended before the migration began: "{live}" was not touched.', (_LATER,)
    return (
        "stopped",
        f'The journal ends after the migration began: "{live}" is as the migration left it. The deployment is '
        "still active, or was killed.",
        (_LATER, "lastgood recover   # goes back to its restore point", f"lastgood deploy --accept {run}"),
    )
