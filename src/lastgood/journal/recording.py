"""What a journal keeps besides its steps: who began, from where and with what command; what was said and which programs
were started; and how it ended.

Everything of a procedure that people read later begins with ``begin`` and happens inside ``recording``:

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
from lastgood.errors import NOT_REACHED, Interrupted, LastgoodError, Refused
from lastgood.events import Caution, Emit, Event, Note, StageDone, StageFailed, StageStarted
from lastgood.journal import Journal, caller
from lastgood.journal.run_names import new_run
from lastgood.process import run as child
from lastgood.text import redact

Kind = Literal[
    "rollback", "undo", "abort", "finish", "maintenance", "restore", "prune", "recover", "validate", "deploy", "drill"
]

KINDS: tuple[str, ...] = get_args(Kind)
# So much of what is said is kept, and so much more of cautions and failures: a journal stays small.
SAID = 1 << 16
LONGEST = 2000
_STATUS = {6: "undone", 7: "stopped", 130: "interrupted"}


def begin(state: Path, run: str, kind: Kind, *, skew: float | None = None, **data: Any) -> Journal:
    """A new journal that says who begins ``kind``, where, with what command and what the server's clock is ahead of
    ours. Raises Refused when it can't be written."""
    journal = Journal.create(state, run)
    try:
        journal.write("begun", kind=kind, **caller.identity(), **({"skew": skew} if skew is not None else {}), **data)
    except OSError as error:
        raise unwritten(journal, error) from error
    return journal


def unwritten(journal: Journal, error: OSError) -> Refused:
    """The refusal of what is not done without a record."""
    return Refused(
        f'cannot write the record "{journal.path}": {(error.strerror or str(error)).lower()}',
        hint="Name another folder with --state: nothing is done without a record.",
        state=NOT_REACHED,
    )


def attempt(context: Context, run: str, kind: Kind, *, skew: float | None = None, **data: Any) -> Journal | None:
    """The same for what is done even where no record can be kept: then it is None, and a caution says why. Without a
    ``state`` nobody wants one."""
    if context.state is None:
        return None
    try:
        return begin(context.state, run, kind, skew=skew, **data)
    except LastgoodError as error:
        context.emit(Caution(f"there will be no record of this: {error}"))
        return None


def remember(state: Path, kind: Kind, *, status: str, **data: Any) -> None:
    """A record of something short that is over already. A failure is passed over: it was only a look."""
    with suppress(OSError, LastgoodError):
        ended(begin(state, new_run(datetime.now(UTC)), kind, **data), status)


def goes_on(journal: Journal, event: Literal["resumed", "aborting"], *, skew: float | None = None, **data: Any) -> None:
    """Says who goes on with a run, or takes it back. Raises OSError."""
    kind = {"kind": data.pop("kind")} if "kind" in data else {}
    journal.write(event, **kind, **caller.identity(), **({"skew": skew} if skew is not None else {}), **data)


@contextmanager
def recording(journal: Journal | None, emit: Emit) -> Iterator[Emit]:
    """An ``Emit`` for the length of a ``with`` block that also writes what is said into the journal; and the error that
    ends the block, unless the journal has been told already how it ended."""
    if journal is None:
        yield emit
        return
    keep = _Keep(journal)

    def tee(event: Event) -> None:
        keep.event(event)
        emit(event)

    with child.listening(keep.program):
        try:
            yield tee
        except BaseException as error:
            if not journal.is_ended:
                ended(journal, _status(error), error=error_data(error))
            raise


def ended(journal: Journal | None, status: str, **data: Any) -> None:
    """Writes how it ended; that it is done stays so where the disk is full."""
    if journal is not None:
        with suppress(OSError):
            journal.write("ended", status=status, **data)


def error_data(error: BaseException) -> dict[str, Any]:
    """An error as a journal keeps it: ``code``, ``message``, ``hint``, ``state`` and ``exit_status``, without
    passwords."""
    scrub = caller.current().scrub
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted("interrupted", state="")
    if isinstance(error, LastgoodError):
        found = {"message": error.message, "hint": error.hint, "state": error.state}
        return {
            "code": error.code,
            **{name: scrub(text) for name, text in found.items()},
            "exit_status": error.exit_status,
        }
    message = scrub(f"{type(error).__name__}: {error}"[:LONGEST])
    return {"code": LastgoodError.code, "message": message, "hint": "", "state": "", "exit_status": 1}


def _status(error: BaseException) -> str:
    return _STATUS.get(error_data(error)["exit_status"], "failed")


class _Keep:
    """What of all that is said the journal keeps. Progress is not; nor what comes when it has said a lot, save what
    went wrong."""

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

    def program(self, started: child.Started) -> None:
        words = started.arguments
        if words[-1:] != ("--version",):
            # What a hook's arguments mean only its owner knows: a token may be among them.
            command = self._scrub(words[0]) if started.foreign else redact.command_line(words, self._scrub)
            self._note("program", command=command)

    def _note(self, event: str, **data: Any) -> None:
        data = {name: self._scrub(each)[:LONGEST] if isinstance(each, str) else each for name, each in data.items()}
        size = sum(len(each) for each in data.values() if isinstance(each, str))
        if self._size + size < (2 * SAID if event in ("caution", "stage failed") else SAID):
            self._size += size
            self._journal.note(event, **data)
