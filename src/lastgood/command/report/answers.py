"""What people answer for afterwards, written into the run's journal: it only ever grows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lastgood.command.report.afterwards import TITLES
from lastgood.config.tables import Record
from lastgood.errors import NOT_REACHED, Refused, UsageError
from lastgood.journal import SENSELESS, Journal, caller, incidents


def answer(state: Path, run: str, items: Sequence[str], person: str, note: str, settings: Record) -> None:
    """``person`` says that ``items`` of the checklist after ``run`` are done. Raises UsageError for what is no item,
    Refused for a run that asks for nothing, or whose journal is elsewhere or can't be written."""
    known = (*TITLES, *settings.checklist)
    for item in items:
        if item not in known:
            raise UsageError(
                f'cannot attest "{item}": no such checklist item',
                hint=f"Its items: {', '.join(known)}. Define your own as checklist in [record] of lastgood.toml.",
                state=NOT_REACHED,
            )
    if not person.strip():
        raise UsageError(
            "cannot attest an item: no person is named",
            hint="Name who attests it: --by NAME.",
            state=NOT_REACHED,
        )
    journal = Journal.find(state, run)
    if journal is None:
        raise Refused(
            f'cannot write into the record of run "{run}": this machine has no journal of it',
            hint=f'Journals are in "{state / "runs"}" of the machine that ran it (--state names another folder).',
            state=NOT_REACHED,
        )
    try:
        if incidents.read(journal) is None:
            raise Refused(
                f'cannot write into the record of run "{run}": it has no checklist after',
                hint="Only a run that switched databases has one. Look at lastgood runs --kind rollback.",
                state=NOT_REACHED,
            )
        identity = {name: value for name, value in caller.identity().items() if name not in ("command", "folder")}
        for item in items:
            journal.write("answered", item=item, person=person.strip(), note=note, **identity)
    except SENSELESS as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise Refused(
            f'cannot write into the record "{journal.path}": {why.lower()}',
            hint="Fix the folder, and run the same command again.",
            state=NOT_REACHED,
        ) from error
