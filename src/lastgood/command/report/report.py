"""The record of past runs: their list, the report of one run, the post-mortem and the checklist after a run."""

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from lastgood.command.explain.run import newest, story_of, titles
from lastgood.command.report.chronicle import Chronicle
from lastgood.command.report.document import RunLine, RunRecord, Runs
from lastgood.command.report.follow_up import TITLES, attest
from lastgood.command.report.holdings import ServerMarks
from lastgood.command.report.inquiry import Inquiry
from lastgood.command.report.of_journal import of_journal
from lastgood.command.report.of_marks import of_marks
from lastgood.errors import NOT_REACHED, Refused
from lastgood.journal import JOURNAL_ERRORS, Journal, incidents
from lastgood.journal.reader import Entry, read_run

# Listed only on request, because it may run every hour.
UNLISTED = "validate"
__all__ = [
    "TITLES",
    "Inquiry",
    "RunLine",
    "RunRecord",
    "Runs",
    "attest",
    "newest_incident",
    "record_of",
    "runs",
]


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
        history = read_run(journal)
        return of_journal(inquiry, journal, history, seen) if history is not None else of_marks(inquiry, name)
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
    known_incidents = incidents.incidents_of(inquiry.state, live)
    if not known_incidents:
        raise Refused(
            f'cannot choose a run: this machine has no completed rollback of "{live}"',
            hint="Name the run. To list the runs: lastgood runs",
            state=NOT_REACHED,
        )
    return known_incidents[0].run


def runs(state: Path, kind: str | None = None, limit: int = 20) -> Runs:
    """Return the newest ``limit`` runs of this machine, of one ``kind`` if given, otherwise without validations. Empty
    and damaged journals are left out."""
    listed: list[RunLine] = []
    undone: dict[str, str] = {}  # an undo is newer than the run that it reverts
    # Journals that began on another machine may lack the kind in their first entry.
    kinds = ("undo", kind, "") if kind is not None else ()
    for journal in Journal.newest(state, *kinds):
        if kind is None and journal.kind == UNLISTED:
            continue
        line = None
        with suppress(*JOURNAL_ERRORS):
            line = _line(journal)
        if line is None:
            continue
        if line.kind == "undo" and line.outcome in ("done", "switched"):
            undone[line.detail] = line.run
        if kind not in (None, line.kind):
            continue
        if len(listed) == limit:
            return Runs(runs=tuple(listed), more=True)
        listed.append(line.model_copy(update={"undone_by": undone.get(line.run, "")}))
    return Runs(runs=tuple(listed), more=False)


def _line(journal: Journal) -> RunLine | None:
    history = read_run(journal)
    if history is None:
        return None
    story, chronicle = story_of(history), Chronicle(history, titles())
    operator = next((each for each in history.entries if each.by and each.host), None)
    begun = chronicle.begun
    seconds = (chronicle.ended - begun).total_seconds()
    if len(history.entries) == 1 and history.past:  # a record of a run that has no journal of its own
        seconds = float(history.past["seconds"])
        begun -= timedelta(seconds=seconds)
    return RunLine(
        run=journal.run,
        kind=story.kind,
        begun=begun,
        by=operator.by if operator is not None else "",
        host=operator.host if operator is not None else "",
        live=story.live,
        point=history.point or history.named_point,
        outcome=story.outcome,
        status=history.ended.status if history.ended is not None else "",
        seconds=round(seconds, 3),
        detail=_detail(history.first),
    )


def _detail(begun: Entry) -> str:
    """Return the qualifier of the kind: maintenance on or off, the verdict of a validation, the undone run."""
    if undoes := begun.plan.get("undoes"):
        return str(undoes)
    return begun.text("action") or begun.text("verdict") or begun.text("into")
