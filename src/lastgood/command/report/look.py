"""The record of a run, from its journal or from the marks on the server."""

from __future__ import annotations

from lastgood.command.explain.run import newest
from lastgood.command.report.document import RunRecord
from lastgood.command.report.holdings import ServerMarks
from lastgood.command.report.inquiry import Inquiry
from lastgood.command.report.of_journal import of_journal
from lastgood.command.report.of_marks import of_marks
from lastgood.errors import NOT_REACHED, Refused
from lastgood.journal import JOURNAL_ERRORS, Journal, incidents
from lastgood.journal.reader import read_run


def record_of(inquiry: Inquiry, run: str | None, seen: ServerMarks | None = None) -> RunRecord:
    """Return the record of ``run``, by default of the newest run of this machine. ``seen``: the result of a query of
    the server, which saves another one. Raises Refused for an unknown run, UsageError for an invalid name."""
    name = run if run is not None else newest(inquiry.state)
    if name is None:
        raise Refused(
            "cannot report: this machine has no record of any run",
            hint=f'Journals are in "{inquiry.state / "runs"}" of the machine that ran it (--state names another '
            "folder); lastgood report RUN reads the run's marks on the server.",
            state=NOT_REACHED,
        )
    journal = Journal.find(inquiry.state, name)
    if journal is None:
        return of_marks(inquiry, name)
    try:
        found = read_run(journal)
        return of_journal(inquiry, journal, found, seen) if found is not None else of_marks(inquiry, name)
    except JOURNAL_ERRORS as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "the journal is damaged"
        raise Refused(
            f'cannot read the record "{journal.path}": {why.lower()}',
            hint="The server has the current state: lastgood status",
            state=NOT_REACHED,
        ) from error


def newest_incident(inquiry: Inquiry) -> str:
    """Return the newest run of the live database that has a checklist. Raises Refused if there is none."""
    live = inquiry.target.dbname if inquiry.target is not None else ""
    found = incidents.incidents_of(inquiry.state, live)
    if not found:
        raise Refused(
            f'cannot choose a run: this machine has no completed rollback of "{live}"',
            hint="Name the run. To list the runs: lastgood runs",
            state=NOT_REACHED,
        )
    return found[0].run
