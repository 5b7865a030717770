"""The record of a run in parts, for every way to show it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC

from lastgood.command.explain.run import titles
from lastgood.command.report.document import After, ItemAfter, RunLine, RunRecord
from lastgood.command.rollback.show import VERDICTS
from lastgood.plan.plan import TableLoss
from lastgood.screen.blocks import Block, Code, Items, Pairs, Paragraph, Picture, Rows, Tasks, Title
from lastgood.screen.screen import Column
from lastgood.text import units

PICTURE = "timeline.svg"
SHOWN = 20
NAMED = 5
_OUTCOMES = {
    "done": "done",
    "walked_back": "failed, the database is as it was",
    "aborted": "aborted",
    "undone": "failed, and was taken back",
    "failed": "failed",
    "stopped": "stopped before the switch, or still active",
    "switched": "switched, not finished",
    "unknown": "not known",
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
    "total": "In all",
    "plan": "Plan",
    "write_outage": "Write outage",
    "read_outage": "Read outage",
}
# What the plan's estimate is of; an earlier version counted the second as a part of the first.
_BUILDING = ("build", "carry_over", "prove")
_DEPLOYMENTS = {
    "done": "done",
    "undone": "failed; the database was rolled back",
    "walked_back": "failed; the database is as it was",
    "stopped": "stopped half-way, or still active",
}
# What stands at the head already.
_TOLD = ("format", "run", "live", "started")


def outcome(run: RunRecord | RunLine) -> str:
    """How a run ended, in words; deployments and drills have their own."""
    if run.kind == "deploy" and run.outcome in _DEPLOYMENTS:
        return _DEPLOYMENTS[run.outcome]
    if run.outcome == "failed" and run.status not in ("", "failed"):
        return run.status.replace("_", " ")
    return _OUTCOMES.get(run.outcome, run.outcome)


def title(record: RunRecord) -> str:
    """Which run it is, and how it ended."""
    if record.source == "server":
        how = "switched" if record.outcome == "switched" else "not switched"
        return f"{record.kind.capitalize()} {record.run}: {how}, according to the server"
    since = ", and undone since" if record.undone_by else ""
    return f"{record.kind.capitalize()} {record.run}: {outcome(record)}{since}"


def parts(record: RunRecord) -> Iterator[Block]:
    """The whole document."""
    yield Title(title(record), 1)
    yield Paragraph(record.state)
    for each in record.undone_by:
        by = f" by {each.by} on {each.host}" if each.by else ""
        yield Paragraph(f"It was undone{by}, {units.moment(each.at)}, by run {each.run}.")
    yield Pairs(tuple(_summary(record)))
    if record.error is not None:
        yield Title("Why it ended this way")
        yield Paragraph(record.error.message)
        yield Pairs(
            (
                ("State then", record.error.state),
                ("Advice then", record.error.hint),
                ("Exit status", str(record.error.exit_status)),
            )
        )
    elif record.reason:
        yield Title("Why it ended this way")
        yield Paragraph(record.reason)
    if record.remarks:
        yield Title("What is not known")
        yield Items(record.remarks)
    yield from who(record)
    yield from _plan(record)
    yield from _timeline(record)
    yield from loss(record)
    yield from _proof(record)
    yield from figures(record)
    yield from _reported(record)
    yield from _answers(record)
    yield from _application(record)
    yield from where(record)
    if record.after is not None:
        yield from checklist(record.run, record.after)
    yield Title("What to do next")
    yield Items([Code(command) for command in record.commands])


def _summary(record: RunRecord) -> Iterator[tuple[str, str | Code]]:
    first = record.people[0] if record.people else None
    yield "Database", record.live
    yield "Server", ", ".join(part for part in (record.server, _version(record)) if part)
    made = f", made {units.moment(record.point_made_at)}" if record.point_made_at is not None else ""
    yield "Undoes", record.undoes
    yield "Restore point", f"{record.point}{made}" if record.point else ""
    if first is not None and first.by:
        yield "Who", first.person
        yield "Command", Code(first.command) if first.command else ""
    yield "Begun", units.moment(record.begun)
    if record.source == "journal":
        yield "Ended", f"{units.moment(record.ended)}, after {units.duration(record.seconds)}"
    yield "Clock", clock(record)
    yield "lastgood", first.lastgood if first is not None else ""


def _version(record: RunRecord) -> str:
    return f"PostgreSQL {record.server_version}" if record.server_version else ""


def clock(record: RunRecord) -> str:
    """Whose time it is that is told."""
    if record.skew is None:
        return "the server's" if record.source == "server" else "that of the machine that ran it"
    if abs(record.skew) < 0.05:
        return "the server's; the machine's was the same"
    side = "ahead of" if record.skew > 0 else "behind"
    return f"the server's, {units.duration(abs(record.skew))} {side} the machine's"


def who(record: RunRecord) -> Iterator[Block]:
    """Everybody who had a hand in it."""
    if len(record.people) > 1:
        yield Title("Who")
        yield Rows(
            (Column("when"), Column("who", fold=True), Column("did"), Column("command", fold=True)),
            [
                (
                    units.moment(each.at),
                    each.person,
                    each.did,
                    Code(each.command) if each.command else "",
                )
                for each in record.people
            ],
        )


def _plan(record: RunRecord) -> Iterator[Block]:
    plan = record.planned
    if plan is None:
        return
    yield Title("Plan")
    expected = f"{units.roughly(plan.expected_seconds)} to build and prove" if plan.expected_seconds else "not known"
    took = sum(record.figures.get(step, 0.0) for step in _BUILDING)
    yield Pairs(
        (
            ("Built beside it", Code(plan.shadow)),
            ("Kept as", Code(plan.kept)),
            ("Writers kept out", "from the start" if plan.fence == "now" else "at the switch"),
            ("Reopened when", plan.reopen_when),
            ("Expected", f"{expected}; it took {units.duration(took)}" if took else expected),
            ("Checklist", plan.verdict),
        )
    )
    if plan.found:
        yield Items(plan.found)


def _timeline(record: RunRecord) -> Iterator[Block]:
    yield Title("Timeline")
    if record.phases:
        yield Picture(PICTURE, "Phases")
    yield timeline_rows(record)


def timeline_rows(record: RunRecord) -> Rows:
    """What happened, by the server's clock."""
    return Rows(
        (Column("UTC"), Column("took", right=True), Column("what", fold=True)),
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
    """What was there before and is not in the restore point, table by table."""
    if not record.loss:
        return
    changed = [each for each in record.loss if each.differs]
    yield Title("What the live database had, and the restore point has")
    if not changed:
        yield from _same(record.loss, "")
        return
    yield Rows(
        (
            Column("table", fold=True),
            Column("before", right=True),
            Column("restored", right=True),
            Column("difference", right=True),
            Column("written since", right=True),
        ),
        [
            (
                each.table,
                _rows(each.live_rows),
                _rows(each.point_rows),
                _difference(each),
                f"{units.number(each.written_since)} (by {each.by})" if each.written_since is not None else "not known",
            )
            for each in changed
        ],
        most=SHOWN,
    )
    yield from _same(record.loss, "other ")


def _difference(each: TableLoss) -> str:
    if each.in_place:
        return "changed in place"
    if each.live_rows == each.point_rows and each.not_in_dumps:
        return f"{units.number(each.not_in_dumps)} copied over"
    return units.signed((each.point_rows or 0) - (each.live_rows or 0))


def _same(losses: Sequence[TableLoss], other: str) -> Iterator[Block]:
    """The tables that are not known to differ: equal in every row, or only in number."""
    equal = sum(each.content == "equal" and not each.differs for each in losses)
    if equal:
        table = units.counted(equal, f"{other}table had", f"{other}tables had")
        yield Paragraph(f"{table} exactly the rows of the restore point.")
    unknown = [each for each in losses if each.content != "equal" and not each.differs]
    if unknown:
        names = ", ".join(each.table for each in unknown[:NAMED])
        more = f" and {units.counted(len(unknown) - NAMED, 'more table')}" if len(unknown) > NAMED else ""
        why = "; ".join(dict.fromkeys(each.why for each in unknown if each.why))
        yield Paragraph(
            f"Compared by number of rows only, which is the same: {names}{more}" + (f" ({why})." if why else ".")
        )


def _rows(count: int | None) -> str:
    return units.number(count) if count is not None else "not there"


def _proof(record: RunRecord) -> Iterator[Block]:
    if not record.proofs:
        return
    equal = sum(each.equal is True for each in record.proofs)
    rows = sum(each.rows for each in record.proofs)
    yield Title("Proof")
    yield Paragraph(
        f"{units.number(equal)} of {units.counted(len(record.proofs), 'table')} with {units.counted(rows, 'row')}"
        " were equal to the restore point in every row before the switch."
    )
    yield Rows(
        (
            Column("table", fold=True),
            Column("rows", right=True),
            Column("content digest", fold=True),
            Column("verdict"),
        ),
        [
            (each.table, units.number(each.rows), each.digest or "none", VERDICTS[each.equal])
            for each in sorted(record.proofs, key=lambda each: (bool(each.equal), -each.rows))
        ],
        most=SHOWN,
    )
    if record.not_compared:
        yield Items([f"not compared: {each}" for each in record.not_compared])


def figures(record: RunRecord) -> Iterator[Block]:
    """How long each part took."""
    if record.figures:
        yield Title("Figures")
        # A run's own journal has the better titles.
        known = {**titles(), **{each.name: each.title for each in record.phases}, **_FIGURES}
        yield Pairs(
            [
                (_capitalized(known.get(name, name.replace("_", " "))), units.duration(each))
                for name, each in record.figures.items()
                if each
            ]
        )


def _capitalized(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _reported(record: RunRecord) -> Iterator[Block]:
    """What the report of another kind of run says by itself."""
    if record.report is None or record.kind in ("rollback", "undo"):
        return
    said = [
        (name.replace("_", " ").capitalize(), str(value))
        for name, value in record.report.items()
        if isinstance(value, str | int) and name not in _TOLD and value != ""
    ]
    said += [
        (name.replace("_", " ").capitalize(), f"run {value['run']}")
        for name, value in record.report.items()
        if isinstance(value, dict) and "run" in value
    ]
    if said:
        yield Title("What it reported")
        yield Pairs(said)


def _answers(record: RunRecord) -> Iterator[Block]:
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
        yield Rows(
            (
                Column("hook"),
                Column("when"),
                Column("status", right=True),
                Column("took", right=True),
                Column("output", fold=True),
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
        said = record.health.problem or f"answered {record.health.status}"
        yield Paragraph(
            f"Health: {record.health.url} {said}, after {units.counted(record.health.tries, 'try', 'tries')}."
        )
    if record.watch is not None:
        worse = ", ".join(each.title for each in record.watch.worse) or "nothing"
        ended = f" ({record.watch.ended})" if record.watch.ended else ""
        yield Paragraph(f"Watched for {units.duration(record.watch.seconds)}{ended}: worse than before: {worse}.")


def where(record: RunRecord) -> Iterator[Block]:
    """What the run left and used, and where that is now."""
    if record.holdings:
        yield Title("What is kept where")
        yield Rows(
            (Column("what"), Column("name", fold=True), Column("now"), Column("", fold=True)),
            [(each.what, Code(each.name), each.now, each.detail) for each in record.holdings],
        )


def checklist(run: str, after: After) -> Iterator[Block]:
    """The checklist after, with what is still open."""
    yield Title("Checklist after")
    if after.due is not None:
        over = "OVERDUE" if after.overdue else "due"
        yield Paragraph(f"The post-mortem is {over}: {units.moment(after.due)} ({units.ago(after.due)}).")
    yield Tasks([(each.done, item(each)) for each in after.items])
    people = [each.item for each in after.open if each.known == "not known"]
    if people:
        yield Paragraph("To attest an item:")
        yield Items([Code(f"lastgood report {run} --done {shlex.quote(people[0])} --by NAME")])


def item(each: ItemAfter) -> str:
    """One line of the checklist."""
    name = f" [{each.item}]" if each.item != each.title else ""
    said = f": {each.text}" if each.text else ""
    when = f", {units.moment(each.at)}" if each.at is not None else ""
    known = f" ({each.known}{when})" if each.known != "not known" else ""
    todo = f"; run: {each.command}" if each.command and not each.done else ""
    return f"{each.title}{name}{said}{known}{todo}"
