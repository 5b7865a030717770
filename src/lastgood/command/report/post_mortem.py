"""The draft of a post-mortem: what is known is filled in, what only people know is asked for."""

from __future__ import annotations

from collections.abc import Iterator

from lastgood.command.report import parts as shown
from lastgood.command.report.document import RunRecord
from lastgood.screen.blocks import Block, Items, Pairs, Paragraph, Rows, Title, ToFill, as_markdown
from lastgood.screen.screen import Column
from lastgood.text import units

_TOLD = ("who", "done", "failed", "undone", "caution", "hook", "health", "pause", "end")


def draft(record: RunRecord) -> str:
    """The draft, as Markdown."""
    return as_markdown(_parts(record))


def _parts(record: RunRecord) -> Iterator[Block]:
    yield Title(f"Post-mortem: {record.kind} of {record.live or 'a database'}, {units.day(record.begun)}", 1)
    due = record.after.due if record.after is not None else None
    yield Pairs(
        (
            ("Status", "draft"),
            ("Due", units.moment(due) if due is not None else "no date is asked for"),
            ("Run", record.run),
            ("Author", "TO BE FILLED"),
        )
    )
    yield Title("Summary")
    yield Paragraph(_summary(record))
    yield ToFill("TO BE FILLED: in two sentences, what users noticed, and why it was done.")
    yield Title("Impact")
    yield Pairs(tuple(_impact(record)))
    yield ToFill("TO BE FILLED: who was affected, from when to when, and what they could not do.")
    yield from shown.loss(record)
    yield Title("Timeline")
    yield ToFill("TO BE FILLED: when it began, when and how it was noticed, who was called.")
    moments = [each for each in record.timeline if each.kind in _TOLD]
    yield shown.timeline_rows(record.model_copy(update={"timeline": tuple(moments)}))
    yield Paragraph(f"Times are in UTC; the clock is {shown.clock(record)}.")
    yield Title("What happened")
    yield Paragraph(record.state)
    if record.error is not None:
        yield Paragraph(record.error.message)
    elif record.reason:
        yield Paragraph(record.reason)
    for each in record.undone_by:
        yield Paragraph(f"It was taken back by the undo {each.run}, {units.moment(each.at)}.")
    yield ToFill("TO BE FILLED: what led to it, step by step.")
    yield Title("Root cause")
    yield ToFill("TO BE FILLED: why it could happen. Ask why until the answer is something that can be changed.")
    yield Title("What went well")
    if well := list(_well(record)):
        yield Items(well)
    yield ToFill("TO BE FILLED")
    yield Title("What did not")
    if badly := list(_badly(record)):
        yield Items(badly)
    yield ToFill("TO BE FILLED")
    yield Title("Actions")
    yield Rows(
        (Column("action"), Column("who"), Column("until")),
        [
            ("TO BE FILLED: what keeps it from happening again", "", ""),
            ("TO BE FILLED: what would have shown it earlier", "", ""),
        ],
    )
    if record.after is not None:
        yield from shown.checklist(record.run, record.after)
    yield from shown.where(record)
    if record.remarks:
        yield Title("What is not known")
        yield Items(record.remarks)


def _summary(record: RunRecord) -> str:
    first = next((each for each in record.people if each.by), None)
    who = first.person if first is not None else "somebody"
    if record.kind != "rollback":
        command = f" ({first.command})" if first is not None and first.command else ""
        return (
            f'{units.moment(record.begun)} {who} began this: {record.kind} of the database "{record.live}"{command}. '
            f"How it ended: {shown.outcome(record)}."
        )
    point = f" to the restore point {record.point}" if record.point else ""
    made = f", made {units.moment(record.point_made_at)}" if record.point_made_at is not None else ""
    return (
        f'{units.moment(record.begun)} {who} began to put the database "{record.live}" back{point}{made}. '
        f"How it ended: {shown.outcome(record)}."
    )


def _impact(record: RunRecord) -> Iterator[tuple[str, str]]:
    for name, title in (("write_outage", "Writes waited"), ("read_outage", "Reads waited")):
        if name in record.figures:
            yield title, units.duration(record.figures[name])
    if record.point_made_at is not None and record.kind == "rollback":
        back = (record.begun - record.point_made_at).total_seconds()
        yield "Gone back by", units.duration(max(0.0, back))
    if record.source == "journal":
        yield "From begin to end", units.duration(record.seconds)
    if record.loss:
        written = [each for each in record.loss if each.written_since]
        rows = sum(each.written_since or 0 for each in written)
        unknown = sum(each.written_since is None for each in record.loss)
        said = f"{units.counted(rows, 'row')} in {units.counted(len(written), 'table')}, by their time stamps"
        if unknown:
            said += f"; of {units.counted(unknown, 'table')} no column tells"
        yield "Written after the restore point, and not in it", said
        fewer = [each for each in record.loss if (each.point_rows or 0) < (each.live_rows or 0)]
        if fewer:
            yield "Tables with fewer rows than before", units.number(len(fewer))
        in_place = [each for each in record.loss if each.content == "changed" and each.live_rows == each.point_rows]
        if in_place:
            names = ", ".join(each.table for each in in_place[: shown.NAMED])
            more = (
                f" and {units.counted(len(in_place) - shown.NAMED, 'more table')}"
                if len(in_place) > shown.NAMED
                else ""
            )
            yield "Rows changed in place, and changed back", f"{names}{more}"
        unknown_content = [each for each in record.loss if each.content != "equal" and not each.differs]
        if unknown_content:
            yield "Tables whose content was not compared", units.number(len(unknown_content))
    kept = next((each for each in record.holdings if each.what == "previous database"), None)
    if kept is not None:
        yield "What was there before", f"{kept.name}: {kept.now}" + (f", {kept.detail}" if kept.detail else "")


def _well(record: RunRecord) -> Iterator[str]:
    if record.proofs and all(each.equal is not False for each in record.proofs):
        yield f"Every one of {units.counted(len(record.proofs), 'table')} was compared before the switch."
    for each in record.holdings:
        if each.now == "there" and each.what in ("previous database", "emergency backup"):
            yield f"The {each.what} is there: {each.name}."
    if record.health is not None and not record.health.problem:
        yield "The application answered that it is well."


def _badly(record: RunRecord) -> Iterator[str]:
    for each in record.timeline:
        if each.kind in ("failed", "caution"):
            yield each.text
    for override in record.overrides:
        yield f"{override.by} went on in spite of {override.item}: {override.reason}"
    for holding in record.holdings:
        if holding.now == "gone":
            yield f"The {holding.what} is gone: {holding.name}."
