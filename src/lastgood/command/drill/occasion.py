"""What every drill begins and ends with: a name, a record, a place, and an end that says how it went."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lastgood.command.drill.evidence import Evidence, StoreEvidence
from lastgood.command.drill.place import Place, base, clean_up, place
from lastgood.command.drill.request import DrillRequest
from lastgood.command.drill.scratch import LiveServer, Scratch, embedded, given
from lastgood.command.drill.seal import Render, Sealed, seal, sign
from lastgood.errors import NOT_REACHED, Failed, Interrupted, LastgoodError
from lastgood.events import Emit, Note
from lastgood.journal import Journal, caller, recording
from lastgood.journal.run_names import new_run
from lastgood.text import redact


@dataclass(frozen=True, slots=True)
class Occasion:
    """One drill: its run, its record, where it works, and what could be seen of the live server."""

    request: DrillRequest
    run: str
    journal: Journal
    place: Place
    live: LiveServer | None
    emit: Emit

    @contextmanager
    def scratch(self, wanted: int | None, *, timed: bool = True) -> Iterator[Scratch]:
        """The scratch server: the one that was named, or one of that major version (``timed``: see ``embedded``).
        Raises Refused, Failed."""
        name = self.request.live.target.dbname
        if self.request.server is not None:
            assert self.live is not None, "occasion() looked at it"
            with given(self.request.server, self.run, name, self.live, self.emit) as scratch:
                yield scratch
        else:
            with embedded(self.place, self.run, name, wanted, timed=timed) as scratch:
                yield scratch

    def keep(self, evidence: Evidence | StoreEvidence, render: Render, past: dict[str, Any] | None) -> Sealed:
        """Seals the evidence, signs it when somebody answers for it already, and ends the record. Raises Failed."""
        try:
            sealed = seal(self.place.folder, _without_passwords(evidence), self.journal, render)
            status = "done" if evidence.status == "passed" else "failed"
            self.journal.write("ended", kind="drill", status=status, **({"past": past} if past is not None else {}))
        except OSError as error:
            raise Failed(
                f'cannot keep the evidence of the drill in "{self.place.folder}": '
                f"{(error.strerror or str(error)).lower()}",
                hint="Make room there, or name another folder with --state, and drill again.",
                state=NOT_REACHED,
            ) from error
        if self.request.signed_off_by is not None:
            return sign(self.request.live.state, self.run, self.request.signed_off_by, render).sealed
        return sealed


@contextmanager
def occasion(request: DrillRequest, of: str, emit: Emit) -> Iterator[Occasion]:
    """The frame of one drill. ``of``: what kind, for the record. What a killed one left is removed first.

    When the block ends with an error nothing stays but the record, which says why. Raises Refused, Failed.
    """
    state = request.live.state
    clean_up(state, emit)
    live = _look(request, emit)
    root = base(request.folder)
    run = new_run(datetime.now(UTC))
    with place(state, run, root) as found:
        journal = recording.begin(state, run, "drill", of=of, live=request.live.target.dbname)
        with recording.recording(journal, emit) as recorded:
            yield Occasion(request, run, journal, found, live, recorded)


def _look(request: DrillRequest, emit: Emit) -> LiveServer | None:
    """What can be seen of the live server. Without it no other server can be told from it."""
    try:
        return LiveServer.look(request.live.target)
    except LastgoodError as error:
        if request.server is not None:
            raise Failed(
                "cannot drill on the server that was named: the live server can't be reached, so that nobody knows "
                f"whether it is that very one ({error})",
                hint="Let lastgood reach the live server, or leave --server out: then one is made for the drill.",
                state=NOT_REACHED,
            ) from error
        emit(Note(f"the live server was not looked at: {error}"))
        return None


def _without_passwords(evidence: Evidence | StoreEvidence) -> Evidence | StoreEvidence:
    """A server's or a program's message may quote one, and evidence is shown around."""
    return type(evidence).model_validate(redact.scrubbed(evidence.model_dump(), caller.current().scrub))


def not_stopped(cancelled: Callable[[], bool], state: str) -> None:
    """Raises Interrupted when the user wants it to end."""
    if cancelled():
        raise Interrupted("interrupted", state=state)
