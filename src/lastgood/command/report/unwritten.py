"""The post-mortems that are not written yet: what `lastgood status` reminds of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from lastgood.command.report.inquiry import Inquiry
from lastgood.config.tables import Record
from lastgood.errors import LastgoodError
from lastgood.journal import incidents
from lastgood.journal.incidents import Incident
from lastgood.status import PostMortemStatus, Status

# The open items are measured for this many post-mortems: an operator is waiting for the status.
MEASURED = 3


def to_do(inquiry: Inquiry, status: Status) -> Iterator[PostMortemStatus]:
    """The rollbacks of the live database whose post-mortem is not written yet, the newest first, the newest few with
    what is open of their checklists; ``status`` is what the server has just shown. A record that can't be read is
    passed over: whoever asks for the status has other worries."""
    target = inquiry.target
    if target is None:
        return
    found = unwritten(inquiry.state, target.dbname, target.place, inquiry.tables.record)
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
    # Here, because few databases have such a run, and its record takes half of lastgood to measure.
    from lastgood.command.report.holdings import Server
    from lastgood.command.report.look import record_of

    found = record_of(inquiry, run, Server(status))
    items = found.after.open if found.after is not None else ()
    return tuple(item.item for item in items if item.item != incidents.POST_MORTEM)


def unwritten(
    state: Path, live: str, server: str | None, settings: Record
) -> Iterator[tuple[Incident, datetime, bool]]:
    """The incidents whose post-mortem is not written, the newest first: each with when it is due, and whether that is
    over."""
    now = datetime.now(UTC)
    if settings.post_mortem_within:
        for each in incidents.open_ones(state, live, server):
            with suppress(OverflowError):  # a journal that says it ended at the end of time
                due = each.due(settings.post_mortem_within)
                yield each, due, now > due
