"""The frame of every drill: a run name, a journal, a place, and a recorded end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lastgood.command.drill.evidence import DrillEvidence, DrillRequest, StoreEvidence
from lastgood.command.drill.place import Place, base, clean_up, place
from lastgood.command.drill.scratch import DrillServer, LiveServer, embedded, given
from lastgood.command.drill.seal import Render, Sealed, seal, sign
from lastgood.errors import NOT_REACHED, Failed, LastgoodError, os_reason
from lastgood.events import Emit, Note
from lastgood.journal import Journal, caller, recording
from lastgood.journal.run_names import new_run
from lastgood.text import redact


@dataclass(frozen=True, slots=True)
class Occasion:
    """One drill: its run, its journal, its place, and what is known of the live server."""

    request: DrillRequest
    run: str
    journal: Journal
    place: Place
    live: LiveServer | None
    emit: Emit

    @contextmanager
    def scratch(self, wanted: int | None, *, timed: bool = True) -> Iterator[DrillServer]:
        """Provide the scratch server: the given one, or one of that major version (``timed``: see ``embedded``).
        Raises Refused, Failed."""
        name = self.request.live.target.dbname
        if self.request.server is not None:
            assert self.live is not None, "occasion() inspected it"
            with given(self.request.server, self.run, name, self.live, self.emit) as scratch:
                yield scratch
        else:
            with embedded(self.place, self.run, name, wanted, timed=timed) as scratch:
                yield scratch

    def keep(self, evidence: DrillEvidence | StoreEvidence, render: Render, past: dict[str, Any] | None) -> Sealed:
        """Seal the evidence, sign it with --signed-off-by, and end the journal. Raises Failed."""
        try:
            sealed = seal(self.place.folder, _without_passwords(evidence), self.journal, render)
            status = "done" if evidence.status == "passed" else "failed"
            self.journal.write("ended", kind="drill", status=status, **({"past": past} if past is not None else {}))
        except OSError as error:
            raise Failed(
                f'cannot keep the evidence of the drill in "{self.place.folder}": {os_reason(error)}',
                hint="Free disk space there, or give another folder with --state, then drill again.",
                state=NOT_REACHED,
            ) from error
        if self.request.signed_off_by is not None:
            return sign(self.request.live.state, self.run, self.request.signed_off_by, render).sealed
        return sealed


@contextmanager
def occasion(request: DrillRequest, kind: str, emit: Emit) -> Iterator[Occasion]:
    """Run one drill in a block; ``kind`` is "drill" or "store". Remains of a killed drill are removed first.

    When the block ends with an error, only the journal remains, with the error. Raises Refused, Failed.
    """
    state = request.live.state
    clean_up(request.live.context(emit))
    live = _live_server(request, emit)
    root = base(request.folder)
    run = new_run(datetime.now(UTC))
    with place(state, run, root) as found:
        journal = recording.begin(state, run, "drill", of=kind, live=request.live.target.dbname)
        with recording.recording(journal, emit) as recorded:
            yield Occasion(request, run, journal, found, live, recorded)


def _live_server(request: DrillRequest, emit: Emit) -> LiveServer | None:
    """Inspect the live server. Without it, a given scratch server cannot be distinguished from it."""
    try:
        return LiveServer.inspect(request.live.target)
    except LastgoodError as error:
        if request.server is not None:
            raise Failed(
                "cannot drill on the given server: the live server is unreachable, so it cannot be ruled out that "
                f"both are the same ({error})",
                hint="Make the live server reachable, or leave --server out to create a scratch server.",
                state=NOT_REACHED,
            ) from error
        emit(Note(f"the live server was not inspected: {error}"))
        return None


def _without_passwords(evidence: DrillEvidence | StoreEvidence) -> DrillEvidence | StoreEvidence:
    """Remove passwords: messages of servers or programs may quote one, and evidence is shared."""
    return type(evidence).model_validate(redact.scrubbed(evidence.model_dump(), caller.current().scrub))
