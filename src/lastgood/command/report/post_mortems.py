"""The open post-mortems, shown by `lastgood status`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from lastgood.command.report.inquiry import Inquiry
from lastgood.config.tables import RecordSettings
from lastgood.errors import LastgoodError
from lastgood.journal import incidents
from lastgood.journal.incidents import Incident
from lastgood.status import PostMortemStatus, Status

# The open items are measured only for this many post-mortems, because the operator is waiting.
MEASURED = 3


def open_post_mortems(inquiry: Inquiry, status: Status) -> Iterator[PostMortemStatus]:
    """Yield the rollbacks of the live database with an open post-mortem, the newest first, the newest few with the open
    items of their checklists. ``status``: the current state of the server. Unreadable records are skipped, so that
    the status is shown in any case."""
    target = inquiry.target
    if target is None:
        return
    found = incidents_to_review(inquiry.state, target.dbname, target.place, inquiry.tables.record)
    for number, (each, due, overdue) in enumerate(found):
        items: tuple[str, ...] = ()
        with suppress(LastgoodError, OSError):
            items = _open_items(inquiry, each.run, status) if number < MEASURED else ()
        yield PostMortemStatus(
            run=each.run,
            due=due,
            overdue=overdue,
            open=items,
            command=f"lastgood report {each.run}",
        )


def _open_items(inquiry: Inquiry, run: str, status: Status) -> tuple[str, ...]:
    # Imported here, because few databases have such a run, and its record needs many modules.
    from lastgood.command.report.holdings import ServerMarks
    from lastgood.command.report.report import record_of

    found = record_of(inquiry, run, ServerMarks(status))
    items = found.after.open if found.after is not None else ()
    return tuple(item.item for item in items if item.item != incidents.POST_MORTEM)


def incidents_to_review(
    state: Path, live: str, server: str | None, settings: RecordSettings
) -> Iterator[tuple[Incident, datetime, bool]]:
    """Yield the incidents with an open post-mortem, the newest first: each with its due time, and whether it is
    overdue."""
    now = datetime.now(UTC)
    if settings.post_mortem_within:
        for each in incidents.open_incidents(state, live, server):
            with suppress(OverflowError):  # a journal with an end time near datetime.max
                due = each.due(settings.post_mortem_within)
                yield each, due, now > due
