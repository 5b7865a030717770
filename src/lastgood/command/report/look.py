"""The record of a run, from wherever it is known."""

from __future__ import annotations

from lastgood.command.explain.run import newest
from lastgood.command.report.document import RunRecord
from lastgood.command.report.holdings import Server
from lastgood.command.report.inquiry import Inquiry
from lastgood.command.report.of_journal import of_journal
from lastgood.command.report.of_marks import of_marks
from lastgood.errors import NOT_REACHED, Refused
from lastgood.journal import SENSELESS, Journal, incidents
from lastgood.journal.reader import recorded


def record_of(inquiry: Inquiry, run: str | None, seen: Server | None = None) -> RunRecord:
    """The record of ``run``, the newest one of this machine when None. The server is asked unless ``seen`` is what it
    has just shown. Raises Refused when nothing knows of the run, and UsageError for what is no name of one."""
    name = run if run is not None else newest(inquiry.state)
    if name is None:
        raise Refused(
            "cannot report: this machine has no run of lastgood",
            hint=f'Journals are in "{inquiry.state / "runs"}" of the machine that ran it (--state names another '
            "folder); lastgood report RUN asks the server for the run's marks.",
            state=NOT_REACHED,
        )
    journal = Journal.find(inquiry.state, name)
    if journal is None:
        return of_marks(inquiry, name)
    try:
        found = recorded(journal)
        return of_journal(inquiry, journal, found, seen) if found is not None else of_marks(inquiry, name)
    except SENSELESS as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged"
        raise Refused(
            f'cannot read the record "{journal.path}": {why.lower()}',
            hint="Ask the server: lastgood status.",
            state=NOT_REACHED,
        ) from error


def newest_incident(inquiry: Inquiry) -> str:
    """The newest run of the live database that has a checklist after. Raises Refused when there is none."""
    live = inquiry.target.dbname if inquiry.target is not None else ""
    found = incidents.all_of(inquiry.state, live)
    if not found:
        raise Refused(
            f'cannot choose a run: no rollback of "{live}" on this machine has switched anything',
            hint="Name it: List the runs with: lastgood runs",
            state=NOT_REACHED,
        )
    return found[0].run
