"""The recording of a run in its journal: the caller and the command, messages, started programs and the end.

A recorded procedure begins with ``begin`` and runs inside ``recording``:

    journal = recording.begin(state, run, "rollback", skew=clock.skew(connection), plan=…)
    with recording.recording(journal, emit) as emit:
        …
        journal.write("ended", status="done", report=…)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from lastgood.context import Context
from lastgood.errors import NOT_REACHED, Interrupted, LastgoodError, Refused, os_reason
from lastgood.events import Caution, Emit, Event, Note, StageDone, StageFailed, StageStarted
from lastgood.journal import Journal, caller
from lastgood.journal.run_names import new_run
from lastgood.process import run as child
from lastgood.text import redact

Kind = Literal[
    "rollback",
    "undo",
    "abort",
    "finish",
    "maintenance",
    "restore",
    "prune",
    "recover",
    "validate",
    "deploy",
    "drill",
    "salvage",
]

KINDS: tuple[str, ...] = get_args(Kind)
# The maximum size of the recorded messages; cautions and failures have twice as much.
MESSAGES_SIZE = 1 << 16
LONGEST = 2000
_STATUS = {6: "undone", 7: "stopped", 130: "interrupted"}


def begin(state: Path, run: str, kind: Kind, *, skew: float | None = None, **data: Any) -> Journal:
    """Create a journal with the caller, the command and the clock skew of the server. Raises Refused if it cannot be
    written."""
    journal = Journal.create(state, run)
    try:
        journal.write("begun", kind=kind, **caller.identity(), **({"skew": skew} if skew is not None else {}), **data)
    except OSError as error:
        raise unwritable_journal(journal, error) from error
    return journal


def unwritable_journal(journal: Journal, error: OSError) -> Refused:
    """Return the refusal of a run that cannot be recorded."""
    return Refused(
        f'cannot write the journal "{journal.path}": {os_reason(error)}',
        hint="Name another folder with --state: lastgood changes nothing without a journal.",
        state=NOT_REACHED,
    )


def begin_if_possible(
    context: Context, run: str, kind: Kind, *, skew: float | None = None, **data: Any
) -> Journal | None:
    """Create a journal for work that does not depend on it. On failure return None with a caution; without a ``state``
    return None."""
    if context.state is None:
        return None
    try:
        return begin(context.state, run, kind, skew=skew, **data)
    except LastgoodError as error:
        context.emit(Caution(f"this run will not be recorded: {error}"))
        return None


def record_short_run(state: Path, kind: Kind, *, status: str, **data: Any) -> None:
    """Record a short run after its end. Failures are ignored, because the run only read."""
    with suppress(OSError, LastgoodError):
        write_end(begin(state, new_run(datetime.now(UTC)), kind, **data), status)


def record_continuation(
    journal: Journal, event: Literal["resumed", "aborting"], *, skew: float | None = None, **data: Any
) -> None:
    """Record the caller who resumes or aborts a run. Raises OSError."""
    kind = {"kind": data.pop("kind")} if "kind" in data else {}
    journal.write(event, **kind, **caller.identity(), **({"skew": skew} if skew is not None else {}), **data)


@contextmanager
def recording(journal: Journal | None, emit: Emit) -> Iterator[Emit]:
    """Provide an ``Emit`` that also records events, for the length of a ``with`` block. An error that leaves the block
    is recorded, too, unless the journal has an end entry already."""
    if journal is None:
        yield emit
        return
    recorder = _Recorder(journal)

    def record_and_emit(event: Event) -> None:
        recorder.event(event)
        emit(event)

    with child.listening(recorder.program):
        try:
            yield record_and_emit
        except BaseException as error:
            if not journal.is_ended:
                write_end(journal, _status(error), error=error_data(error))
            raise


def write_end(journal: Journal | None, status: str, **data: Any) -> None:
    """Write the end entry, ignoring a full disk: the run has ended in any case."""
    if journal is not None:
        with suppress(OSError):
            journal.write("ended", status=status, **data)


def error_data(error: BaseException) -> dict[str, Any]:
    """Return an error as journal data: ``code``, ``message``, ``hint``, ``state`` and ``exit_status``, without
    passwords."""
    scrub = caller.current().scrub
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted("interrupted", state="")
    if isinstance(error, LastgoodError):
        texts = {"message": error.message, "hint": error.hint, "state": error.state}
        return {
            "code": error.code,
            **{name: scrub(text) for name, text in texts.items()},
            "exit_status": error.exit_status,
        }
    message = scrub(f"{type(error).__name__}: {error}"[:LONGEST])
    return {"code": LastgoodError.code, "message": message, "hint": "", "state": "", "exit_status": 1}


def _status(error: BaseException) -> str:
    return _STATUS.get(error_data(error)["exit_status"], "failed")


class _Recorder:
    """Filters the events to record: no progress, and after the maximum size only cautions and failures."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._scrub = caller.current().scrub
        self._size = 0

    def event(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            self._note("stage", name=event.name, title=event.title)
        elif isinstance(event, StageDone):
            self._note("stage done", name=event.name, seconds=round(event.seconds, 3), detail=event.detail)
        elif isinstance(event, StageFailed):
            self._note("stage failed", name=event.name, seconds=round(event.seconds, 3), reason=event.reason)
        elif isinstance(event, Caution):
            self._note("caution", text=event.text)
        elif isinstance(event, Note):
            self._note("note", text=event.text)

    def program(self, started: child.ProgramStart) -> None:
        words = started.arguments
        if words[-1:] != ("--version",):
            # The arguments of a hook may contain secrets.
            command = self._scrub(words[0]) if started.foreign else redact.command_line(words, self._scrub)
            self._note("program", command=command)

    def _note(self, event: str, **data: Any) -> None:
        data = {name: self._scrub(each)[:LONGEST] if isinstance(each, str) else each for name, each in data.items()}
        size = sum(len(each) for each in data.values() if isinstance(each, str))
        if self._size + size < (2 * MESSAGES_SIZE if event in ("caution", "stage failed") else MESSAGES_SIZE):
            self._size += size
            self._journal.note(event, **data)
