"""The draft of a post-mortem: recorded facts are filled in, the rest is marked TO BE FILLED."""

from __future__ import annotations

from collections.abc import Iterator

from lastgood.command.report import parts as shown
from lastgood.command.report.document import RunRecord
from lastgood.plan.loss import Totals
from lastgood.screen.blocks import Block, Items, Pairs, Paragraph, Placeholder, TableBlock, Title, as_markdown
from lastgood.screen.screen import TableColumn
from lastgood.text import units

_IN_TIMELINE = ("who", "done", "failed", "undone", "caution", "hook", "health", "pause", "end")


def draft(record: RunRecord) -> str:
    """Return the draft as Markdown."""
    return as_markdown(_parts(record))


def _parts(record: RunRecord) -> Iterator[Block]:
    yield Title(f"Post-mortem: {record.kind} of {record.live or 'a database'}, {units.day(record.begun)}", 1)
    due = record.after.due if record.after is not None else None
    yield Pairs(
        (
            ("Status", "draft"),
            ("Due", units.moment(due) if due is not None else "no due date"),
            ("Run", record.run),
            ("Author", "TO BE FILLED"),
        )
    )
    yield Title("Summary")
    yield Paragraph(_summary(record))
    yield Placeholder("TO BE FILLED: in two sentences, what users noticed and why the command was run.")
    yield Title("Impact")
    yield Pairs(tuple(_impact(record)))
    yield Placeholder("TO BE FILLED: which users were affected, from when to when, and what they could not do.")
    yield from shown.loss(record)
    yield Title("Timeline")
    yield Placeholder("TO BE FILLED: when the incident began, when and how it was noticed, who was called.")
    moments = [each for each in record.timeline if each.kind in _IN_TIMELINE]
    yield shown.timeline_rows(record.model_copy(update={"timeline": tuple(moments)}))
    yield Paragraph(f"Times are in UTC; the clock is {shown.clock(record)}.")
    yield Title("What happened")
    yield Paragraph(record.state)
    if record.error is not None:
        yield Paragraph(record.error.message)
    elif record.reason:
        yield Paragraph(record.reason)
    for each in record.undone_by:
        yield Paragraph(f"The run was undone by run {each.run}, {units.moment(each.at)}.")
    yield Placeholder("TO BE FILLED: what led to the incident, step by step.")
    yield Title("Root cause")
    yield Placeholder("TO BE FILLED: why the incident was possible. Ask why until the answer can be changed.")
    yield Title("What went well")
    if successes := list(_successes(record)):
        yield Items(successes)
    yield Placeholder("TO BE FILLED")
    yield Title("What went wrong")
    if failures := list(_failures(record)):
        yield Items(failures)
    yield Placeholder("TO BE FILLED")
    yield Title("Actions")
    yield TableBlock(
        (TableColumn("action"), TableColumn("owner"), TableColumn("due")),
        [
            ("TO BE FILLED: what prevents a repetition", "", ""),
            ("TO BE FILLED: what would have detected it earlier", "", ""),
        ],
    )
    if record.after is not None:
        yield from shown.checklist(record.run, record.after)
    yield from shown.holdings_table(record)
    if record.remarks:
        yield Title("Unknown")
        yield Items(record.remarks)


def _summary(record: RunRecord) -> str:
    first = next((each for each in record.people if each.by), None)
    operator = first.person if first is not None else "an unknown operator"
    if record.kind != "rollback":
        command = f" ({first.command})" if first is not None and first.command else ""
        return (
            f"At {units.moment(record.begun)} {operator} began the {record.kind} of the database "
            f'"{record.live}"{command}. Outcome: {shown.outcome(record)}.'
        )
    point = f" to the restore point {record.point}" if record.point else ""
    made = f", made {units.moment(record.point_made_at)}" if record.point_made_at is not None else ""
    return (
        f"At {units.moment(record.begun)} {operator} began the rollback of the database "
        f'"{record.live}"{point}{made}. Outcome: {shown.outcome(record)}.'
    )


def _impact(record: RunRecord) -> Iterator[tuple[str, str]]:
    for name, title in (("write_outage", "Write outage"), ("read_outage", "Read outage")):
        if name in record.figures:
            yield title, units.duration(record.figures[name])
    if record.point_made_at is not None and record.kind == "rollback":
        distance = (record.begun - record.point_made_at).total_seconds()
        yield "Rolled back by", units.duration(max(0.0, distance))
    if record.source == "journal":
        yield "Duration of the run", units.duration(record.seconds)
    if record.loss:
        totals = Totals.of(record.loss)
        least = "" if totals.exact else "at least "
        for title, rows in (
            ("Rows lost", totals.lost),
            ("Rows that got their former content", totals.changed),
            ("Rows that returned", totals.returns),
        ):
            if rows or totals.exact:
                yield title, f"{least}{units.number(rows)}"
        uncounted = [each for each in record.loss if each.content == "changed" and not each.counted]
        if uncounted:
            names = ", ".join(each.table for each in uncounted[: shown.MOST_NAMED])
            more = len(uncounted) - shown.MOST_NAMED
            names += f" and {units.counted(more, 'more table')}" if more > 0 else ""
            yield "Tables whose rows were not counted", names
        unknown_content = [each for each in record.loss if each.content != "equal" and not each.differs]
        if unknown_content:
            yield "Tables whose content was not compared", units.number(len(unknown_content))
    kept = next((each for each in record.holdings if each.what == "previous database"), None)
    if kept is not None:
        yield "Previous database", f"{kept.name}: {kept.now}" + (f", {kept.detail}" if kept.detail else "")


def _successes(record: RunRecord) -> Iterator[str]:
    if record.proofs and all(each.equal is not False for each in record.proofs):
        yield f"{units.counted(len(record.proofs), 'table was', 'tables were')} compared before the switch."
    for each in record.holdings:
        if each.now == "present" and each.what in ("previous database", "emergency backup"):
            yield f"The {each.what} exists: {each.name}."
    if record.health is not None and not record.health.problem:
        yield "The health check of the application passed."


def _failures(record: RunRecord) -> Iterator[str]:
    for each in record.timeline:
        if each.kind in ("failed", "caution"):
            yield each.text
    for override in record.overrides:
        yield f"{override.by} overrode {override.item}: {override.reason}"
    for holding in record.holdings:
        if holding.now == "missing":
            yield f"The {holding.what} is missing: {holding.name}."
