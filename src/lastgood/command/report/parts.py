"""The record of a run as blocks, for every output format."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC

from lastgood.command.explain.run import titles
from lastgood.command.report.document import FollowUp, FollowUpItem, RunLine, RunRecord
from lastgood.command.rollback.show import VERDICTS, compared_by
from lastgood.command.rollback.show_losses import outside, revivals, rows_of
from lastgood.plan.loss import TableLoss
from lastgood.screen.blocks import Block, CodeText, Items, Pairs, Paragraph, Picture, TableBlock, TaskList, Title
from lastgood.screen.screen import TableColumn
from lastgood.text import units

PICTURE = "timeline.svg"
MOST_ROWS = 20
MOST_NAMED = 5
_OUTCOMES = {
    "done": "done",
    "reverted": "failed, the database is as it was",
    "aborted": "aborted",
    "undone": "failed and undone",
    "failed": "failed",
    "stopped": "stopped before the switch, or still active",
    "switched": "switched, not finished",
    "unknown": "unknown",
}
_MARKS = {
    "who": "WHO",
    "stage": "begin",
    "done": "done",
    "program": "program",
    "failed": "FAILED",
    "caution": "CAUTION",
    "end": "END",
    "undone": "UNDONE",
}
_FIGURES = {
    "total": "Total",
    "plan": "Plan",
    "write_outage": "Write outage",
    "read_outage": "Read outage",
}
# The steps that the plan's estimate covers; an earlier version counted carry_over as a part of build.
_BUILDING = ("build", "carry_over", "prove")
_DEPLOYMENTS = {
    "done": "done",
    "undone": "failed; the database was rolled back",
    "reverted": "failed; the database is as it was",
    "stopped": "unfinished, or still active",
}
# Fields that the head of the report already has.
_IN_HEAD = ("format", "run", "live", "started")


def outcome(run: RunRecord | RunLine) -> str:
    """Describe the outcome of a run; deployments and drills have outcomes of their own."""
    if run.kind == "deploy" and run.outcome in _DEPLOYMENTS:
        return _DEPLOYMENTS[run.outcome]
    if run.outcome == "failed" and run.status not in ("", "failed"):
        return run.status.replace("_", " ")
    return _OUTCOMES.get(run.outcome, run.outcome)


def title(record: RunRecord) -> str:
    """Return the title: the kind and name of the run, and its outcome."""
    if record.source == "server":
        switched = "switched" if record.outcome == "switched" else "not switched"
        return f"{record.kind.capitalize()} {record.run}: {switched}, according to the server"
    since = ", later undone" if record.undone_by else ""
    return f"{record.kind.capitalize()} {record.run}: {outcome(record)}{since}"


def parts(record: RunRecord) -> Iterator[Block]:
    """Yield the blocks of the whole document."""
    yield Title(title(record), 1)
    yield Paragraph(record.state)
    if length := _length(record):
        yield Paragraph(length)
    for each in record.undone_by:
        by = f" by {each.by} on {each.host}" if each.by else ""
        yield Paragraph(f"It was undone{by}, {units.moment(each.at)}, by run {each.run}.")
    yield Pairs(tuple(_summary(record)))
    if record.error is not None:
        yield Title("Cause")
        yield Paragraph(record.error.message)
        yield Pairs(
            (
                ("State at that time", record.error.state),
                ("Hint at that time", record.error.hint),
                ("Exit status", str(record.error.exit_status)),
            )
        )
    elif record.reason:
        yield Title("Cause")
        yield Paragraph(record.reason)
    if record.remarks:
        yield Title("Unknown")
        yield Items(record.remarks)
    yield from operators(record)
    yield from _plan(record)
    yield from _timeline(record)
    yield from loss(record)
    yield from _proof(record)
    yield from figures(record)
    yield from _reported(record)
    yield from _overrides_and_attestations(record)
    yield from _application(record)
    yield from holdings_table(record)
    if record.after is not None:
        yield from checklist(record.run, record.after)
    yield Title("Next steps")
    yield Items([CodeText(command) for command in record.commands])


def _length(record: RunRecord) -> str:
    """Describe the duration of the run and of its outages; "" where they were not recorded."""
    outages = {"writes": record.figures.get("write_outage"), "reads": record.figures.get("read_outage")}
    waited = [f"{what} for {units.duration(length)}" for what, length in outages.items() if length]
    if not waited or record.source != "journal":
        return ""
    return f"It took {units.duration(record.seconds)}. Blocked: {', '.join(waited)}."


def _summary(record: RunRecord) -> Iterator[tuple[str, str | CodeText]]:
    first = record.people[0] if record.people else None
    yield "Database", record.live
    yield "Server", ", ".join(part for part in (record.server, _version(record)) if part)
    yield "Undoes", record.undoes
    yield "Restore point", record.point
    yield "Made", units.moment(record.point_made_at) if record.point and record.point_made_at is not None else ""
    if first is not None and first.by:
        yield "Operator", first.person
        yield "Command", CodeText(first.command) if first.command else ""
    yield "Begun", units.moment(record.begun)
    if record.source == "journal":
        yield "Ended", f"{units.moment(record.ended)}, after {units.duration(record.seconds)}"
    yield "Clock", clock(record)
    yield "lastgood", first.lastgood if first is not None else ""


def _version(record: RunRecord) -> str:
    return f"PostgreSQL {record.server_version}" if record.server_version else ""


def clock(record: RunRecord) -> str:
    """Describe the clock that the times are of."""
    if record.skew is None:
        return "the server's" if record.source == "server" else "that of the machine that executed the run"
    if abs(record.skew) < 0.05:
        return "the server's; the machine's was equal"
    side = "ahead of" if record.skew > 0 else "behind"
    return f"the server's, {units.duration(abs(record.skew))} {side} the machine's"


def operators(record: RunRecord) -> Iterator[Block]:
    """Yield the list of operators, if there are several."""
    if len(record.people) > 1:
        yield Title("Operators")
        yield TableBlock(
            (
                TableColumn("time"),
                TableColumn("operator", fold=True),
                TableColumn("action"),
                TableColumn("command", fold=True),
            ),
            [
                (
                    units.moment(each.at),
                    each.person,
                    each.action,
                    CodeText(each.command) if each.command else "",
                )
                for each in record.people
            ],
        )


def _plan(record: RunRecord) -> Iterator[Block]:
    plan = record.planned
    if plan is None:
        return
    yield Title("Plan")
    expected = f"{units.roughly(plan.expected_seconds)} to build and prove" if plan.expected_seconds else "no estimate"
    took = sum(record.figures.get(step, 0.0) for step in _BUILDING)
    yield Pairs(
        (
            ("New database", CodeText(plan.shadow)),
            ("Kept as", CodeText(plan.kept)),
            ("Writes blocked", "from the start" if plan.fence == "now" else "at the switch"),
            ("Reopened when", plan.reopen_when),
            ("Expected", f"{expected}; actual: {units.duration(took)}" if took else expected),
            ("Checklist", plan.verdict),
        )
    )
    if plan.findings:
        yield Items(plan.findings)


def _timeline(record: RunRecord) -> Iterator[Block]:
    yield Title("Timeline")
    if record.phases:
        yield Picture(PICTURE, "Phases")
    yield timeline_rows(record)


def timeline_rows(record: RunRecord) -> TableBlock:
    """Return the table of the timeline, in UTC."""
    return TableBlock(
        (TableColumn("UTC"), TableColumn("took", right=True), TableColumn("what", fold=True, breaks=True)),
        [
            (
                f"{each.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{each.at.microsecond // 1000:03}",
                units.duration(each.seconds) if each.seconds is not None else "",
                f"{_MARKS[each.kind]} {each.text}" if each.kind in _MARKS else each.text,
            )
            for each in record.timeline
        ],
        most=200,
    )


def loss(record: RunRecord) -> Iterator[Block]:
    """Yield the difference between the previous database and the restore point, by table."""
    if not record.loss:
        return
    changed = [each for each in record.loss if each.differs]
    yield Title("Difference between the live database and the restore point")
    if not changed:
        yield from _without_difference(record.loss, "")
        return
    yield TableBlock(
        (
            TableColumn("table", fold=True),
            TableColumn("before", right=True),
            TableColumn("restored", right=True),
            TableColumn("lost", right=True),
            TableColumn("returned", right=True),
            TableColumn("changed", right=True),
        ),
        [(each.table, _rows(each.live_rows), _rows(each.point_rows), *rows_of(each)) for each in changed],
        most=MOST_ROWS,
    )
    if any(each.content == "changed" and not each.counted for each in changed):
        yield Paragraph("≥ and ?: these rows were not counted one by one; others may have been changed in place, too.")
    yield from _without_difference(record.loss, "other ")
    if record.revivals:
        yield Title("What came back to life")
        yield Items([*revivals(record.revivals)])
    if record.outside:
        yield Title("What other systems know of lost rows")
        yield Items([*outside(record.outside)])


def _without_difference(losses: Sequence[TableLoss], other: str) -> Iterator[Block]:
    """Summarise the tables without a known difference: equal in every row, or compared by number only."""
    equal = sum(each.content == "equal" and not each.differs for each in losses)
    if equal:
        table = units.counted(equal, f"{other}table had", f"{other}tables had")
        yield Paragraph(f"{table} exactly the rows of the restore point.")
    unknown = [each for each in losses if each.content != "equal" and not each.differs]
    if unknown:
        names = ", ".join(each.table for each in unknown[:MOST_NAMED])
        more = f" and {units.counted(len(unknown) - MOST_NAMED, 'more table')}" if len(unknown) > MOST_NAMED else ""
        why = "; ".join(dict.fromkeys(each.why for each in unknown if each.why))
        yield Paragraph(
            f"Compared by row count only, without a difference: {names}{more}" + (f" ({why})." if why else ".")
        )


def _rows(count: int | None) -> str:
    return units.number(count) if count is not None else "missing"


def _proof(record: RunRecord) -> Iterator[Block]:
    if not record.proofs:
        return
    equal = sum(each.equal is True for each in record.proofs)
    rows = sum(each.rows for each in record.proofs)
    yield Title("Proof")
    yield Paragraph(
        f"{units.number(equal)} of {units.counted(len(record.proofs), 'table')} with {units.counted(rows, 'row')}"
        f" were equal to the restore point in every row{'' if record.kind == 'restore' else ' before the switch'}."
    )
    yield TableBlock(
        (
            TableColumn("table", fold=True),
            TableColumn("rows", right=True),
            TableColumn("compared"),
            TableColumn("XXH3-128 digest", fold=True, drop=1),
            TableColumn("verdict"),
        ),
        [
            (each.table, units.number(each.rows), compared_by(each), each.digest or "", VERDICTS[each.equal])
            for each in sorted(record.proofs, key=lambda each: (bool(each.equal), -each.rows))
        ],
        most=MOST_ROWS,
    )
    if record.not_compared:
        yield Items([f"not compared: {each}" for each in record.not_compared])


def figures(record: RunRecord) -> Iterator[Block]:
    """Yield the durations of the parts."""
    if record.figures:
        yield Title("Figures")
        # The titles in the run's own journal take precedence.
        titles_by_step = {**titles(), **{each.name: each.title for each in record.phases}, **_FIGURES}
        yield Pairs(
            [
                (_capitalized(titles_by_step.get(name, name.replace("_", " "))), units.duration(each))
                for name, each in record.figures.items()
                if each
            ]
        )


def _capitalized(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _reported(record: RunRecord) -> Iterator[Block]:
    """Yield the fields of the reports of other kinds of runs."""
    if record.report is None or record.kind in ("rollback", "undo"):
        return
    fields = [
        (name.replace("_", " ").capitalize(), str(value))
        for name, value in record.report.items()
        if isinstance(value, str | int) and name not in _IN_HEAD and value != ""
    ]
    fields += [
        (name.replace("_", " ").capitalize(), f"run {value['run']}")
        for name, value in record.report.items()
        if isinstance(value, dict) and "run" in value
    ]
    if fields:
        yield Title("Report")
        yield Pairs(fields)


def _overrides_and_attestations(record: RunRecord) -> Iterator[Block]:
    if record.overrides or record.attestations:
        yield Title("Overrides and attestations")
        yield Items(
            [
                *(f"{each.by} overrode {each.item}: {each.reason}" for each in record.overrides),
                *(f"{each.name} attested {each.item}" for each in record.attestations),
            ]
        )


def _application(record: RunRecord) -> Iterator[Block]:
    if not record.hooks and record.health is None and record.watch is None:
        return
    yield Title("The application")
    if record.hooks:
        yield TableBlock(
            (
                TableColumn("hook"),
                TableColumn("when"),
                TableColumn("status", right=True),
                TableColumn("took", right=True),
                TableColumn("output", fold=True),
            ),
            [
                (
                    each.hook,
                    each.stage,
                    str(each.status) if each.status is not None else "none",
                    units.duration(each.seconds),
                    each.problem or each.output,
                )
                for each in record.hooks
            ],
        )
    if record.health is not None:
        result = record.health.problem or f"answered {record.health.status}"
        yield Paragraph(
            f"Health: {record.health.url} {result}, after {units.counted(record.health.tries, 'try', 'tries')}."
        )
    if record.watch is not None:
        worse = ", ".join(each.title for each in record.watch.worse) or "none"
        ended = f" ({record.watch.ended})" if record.watch.ended else ""
        yield Paragraph(f"Watched for {units.duration(record.watch.seconds)}{ended}. Worse than before: {worse}.")


def holdings_table(record: RunRecord) -> Iterator[Block]:
    """Yield the databases and files of the run, and whether they exist."""
    if record.holdings:
        yield Title("Databases and files")
        yield TableBlock(
            (TableColumn("name", fold=True), TableColumn("what"), TableColumn("now"), TableColumn("detail", fold=True)),
            [(CodeText(each.name), each.what, each.now, each.detail) for each in record.holdings],
        )


def checklist(run: str, after: FollowUp) -> Iterator[Block]:
    """Yield the checklist after the run, with the command to attest an open item."""
    yield Title("Checklist after the run")
    if after.due is not None:
        due = "OVERDUE" if after.overdue else "due"
        yield Paragraph(f"The post-mortem is {due}: {units.moment(after.due)} ({units.ago(after.due)}).")
    yield TaskList([(each.done, item(each)) for each in after.items])
    people = [each.item for each in after.open if each.source == "unknown"]
    if people:
        yield Paragraph("To attest an item:")
        yield Items([CodeText(f"lastgood report {run} --done {shlex.quote(people[0])} --by NAME")])


def item(each: FollowUpItem) -> str:
    """Render one line of the checklist."""
    name = f" [{each.item}]" if each.item != each.title else ""
    text = f": {each.text}" if each.text else ""
    time = f", {units.moment(each.at)}" if each.at is not None else ""
    source = f" ({each.source}{time})" if each.source != "unknown" else ""
    todo = f"; run: {each.command}" if each.command and not each.done else ""
    return f"{each.title}{name}{text}{source}{todo}"
