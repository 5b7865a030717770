"""The evidence of a drill as documents: Markdown, the same as one HTML page, and a chart of its phases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from lastgood.command.drill.drill import DrillEvidence, Sealed, StoreEvidence
from lastgood.command.rollback.show import VERDICTS
from lastgood.screen import markdown as md
from lastgood.screen.page import page
from lastgood.screen.timeline import Bar, timeline
from lastgood.text import units

PICTURE = "timeline.svg"
# A document with more tables would be unreadable; evidence.json has them all.
MOST_TABLES = 500
_BARS = {
    "point": "read the restore point",
    "server": "start the scratch server",
    "stand_in": "create the stand-in",
    "break": "damage it",
    "rollback": "rollback",
    "validate": "validate",
    "undo": "undo",
    "compare": "compare",
    "guide": "manual procedure",
    "clean": "clean up",
}


def files(sealed: Sealed) -> Mapping[str, str]:
    """Return the files that are written next to evidence.json."""
    found = sealed.evidence
    picture = _picture(found)
    text = md.document(*_blocks(sealed))
    return {
        "evidence.md": text,
        PICTURE: picture,
        "evidence.html": page(title(found), text, {PICTURE: picture}),
    }


def title(found: DrillEvidence | StoreEvidence) -> str:
    """Return the title of the document."""
    what = "Drill" if isinstance(found, DrillEvidence) else "Proof of every restore point"
    return f"{what} of {found.live}, {units.day(found.began)}: {found.status}"


def _blocks(sealed: Sealed) -> Iterator[str]:
    found = sealed.evidence
    yield f"# {md.text(title(found))}"
    yield from _of_drill(found) if isinstance(found, DrillEvidence) else _of_store(found)
    yield from _seal(sealed)


def _of_drill(found: DrillEvidence) -> Iterator[str]:
    if found.failure is not None:
        yield f"**The drill failed in phase {md.code(found.failure.phase)}**:  {md.text(found.failure.message)}"
        yield md.text(found.failure.hint)
    yield md.table(
        ("What", "Value"),
        [
            ("Result", f"**{found.status}**"),
            (
                "Live database",
                md.code(found.live) + (f", PostgreSQL {md.text(found.live_server)}" if found.live_server else ""),
            ),
            *([("Rolled back in place", ", ".join(map(md.code, found.schemas)))] if found.schemas else []),
            *_circumstances(found),
            ("Scratch server", md.text(f"PostgreSQL {found.server.version}, {found.server.where}")),
            ("Restore point", md.code(Path(found.point.path).name)),
            ("Made", f"{units.moment(found.point.made_at)}, by its {md.text(found.point.time_source)}"),
            (
                "Content",
                f"{units.counted(found.point.rows, 'row')} in {units.counted(found.point.tables, 'table')}, "
                f"{units.size(found.point.bytes)}",
            ),
            ("SHA-256 of the restore point", md.code(found.point_sha256)),
            ("SHA-256 of its tables", md.code(found.point_digest)),
            ("Run", md.code(found.run)),
        ],
    )
    yield "## Proofs"
    yield md.table(
        ("Proof", "Holds", "Evidence"),
        [(md.text(each.title), "yes" if each.holds else "**NO**", md.text(each.evidence)) for each in found.proofs],
    )
    yield "## Durations"
    yield f"![Timeline]({PICTURE})"
    yield md.table(
        ("Phase", "Started after", "Duration", "Bytes", "Rows", "Result"),
        [
            (
                md.text(each.title),
                units.duration(each.begin),
                units.duration(each.seconds),
                units.size(each.bytes) if each.bytes is not None else "",
                units.number(each.rows) if each.rows is not None else "",
                md.text(each.detail if each.outcome == "done" else f"{each.outcome}: {each.detail}"),
            )
            for each in found.phases
        ],
        right=(1, 2, 3, 4),
    )
    yield from _durations(found)
    yield "## Damage done to the stand-in"
    yield md.bullets(md.text(each) for each in found.broken)
    yield from _remarks(found)
    yield "## Proof of every table"
    yield md.table(
        ("Table", "Rows", "Content digest", "Verdict"),
        [
            (
                md.code(f"{each.schema_name}.{each.name}"),
                units.number(each.rows),
                md.code(each.digest or "none"),
                VERDICTS[each.equal],
            )
            for each in found.tables[:MOST_TABLES]
        ],
        right=(1,),
    )
    if len(found.tables) > MOST_TABLES:
        yield f"{units.number(len(found.tables) - MOST_TABLES)} more tables are in `evidence.json`."


def _durations(found: DrillEvidence) -> Iterator[str]:
    notes = []
    if found.expected is not None:
        notes.append(
            f"Estimate for a real rollback: {units.roughly(found.expected.seconds)} until the switch; writers wait "
            f"{units.roughly(found.expected.write_outage)}, readers {units.duration(found.expected.read_outage)} "
            f"({found.expected.basis})."
        )
    if found.compared is not None:
        notes.append(
            f"Compared with the last successful drill ({found.compared.run}): {found.compared.summary}. Median of the "
            f"last drills: {units.duration(found.compared.median)}."
        )
    elif found.status == "passed":
        notes.append("There is no earlier successful drill on this machine to compare with.")
    if found.due is not None and found.due.next is not None:
        notes.append(f"The next drill is due on {units.day(found.due.next)}.")
    yield md.bullets(md.text(each) for each in notes)


def _remarks(found: DrillEvidence) -> Iterator[str]:
    remarks = [*found.server.remarks, *found.cautions]
    if found.server.roles_made:
        remarks.append(
            f"Roles created for the drill, without passwords, and removed: {', '.join(found.server.roles_made)}"
        )
    if remarks:
        yield "## Remarks"
        yield md.bullets(md.text(each) for each in remarks)
    if found.left_out:
        yield "## What was not rehearsed"
        yield md.bullets(md.text(each) for each in found.left_out)


def _circumstances(found: DrillEvidence | StoreEvidence) -> tuple[tuple[str, str], ...]:
    by = found.by
    return (
        ("Started", units.moment(found.began)),
        ("Duration", units.duration(found.seconds)),
        ("By", f"{md.text(by.user)} on {md.text(by.host)}"),
        ("Command", md.code(by.command) if by.command else ""),
        ("Software", md.text(f"lastgood {by.lastgood}, Python {by.python}, {by.system}")),
    )


def _of_store(found: StoreEvidence) -> Iterator[str]:
    proved = sum(each.proved for each in found.points)
    yield (
        f"**{units.number(proved)} of {units.counted(len(found.points), 'restore point')}** were restored on a "
        "scratch server and proved equal."
    )
    yield md.table(
        ("What", "Value"),
        [
            ("Store", md.code(found.store)),
            *_circumstances(found),
            ("Scratch servers", md.text(", ".join(f"PostgreSQL {each.version}" for each in found.servers))),
            ("Run", md.code(found.run)),
        ],
    )
    bad = [each for each in found.points if not each.proved]
    if bad:
        yield "## Not proved"
        yield md.bullets(f"{md.code(each.name)} ({each.verdict}): {md.text(each.message)}" for each in bad)
    yield "## Every restore point"
    yield f"![Timeline]({PICTURE})"
    yield md.table(
        ("Restore point", "Made", "Bytes", "Rows", "Tables", "Duration", "Verdict", "SHA-256 of its tables"),
        [
            (
                md.code(each.name) + (f" {md.code(each.database)}" if each.database else ""),
                units.moment(each.made_at),
                units.size(each.bytes),
                units.number(each.rows) if each.rows is not None else "",
                units.number(each.tables) if each.tables is not None else "",
                units.duration(each.seconds),
                each.verdict if each.proved else f"**{each.verdict}**",
                md.code(each.digest[:16]) if each.digest else "",
            )
            for each in found.points
        ],
        right=(2, 3, 4, 5),
    )


def _seal(sealed: Sealed) -> Iterator[str]:
    yield "## Seal"
    yield (
        f"SHA-256 of this evidence: {md.code(sealed.sha256)}. To check it for changes: "
        f"{md.code(f'lastgood drill --show {sealed.evidence.run}')}."
    )
    yield md.tasks(
        [
            (
                True,
                f"signed off by {md.text(each.by)}, {units.moment(each.at)}, "
                f"as {md.text(each.user)} on {md.text(each.host)}",
            )
            for each in sealed.signatures
        ]
        or [
            (
                False,
                f"not signed off yet; to sign off: {md.code(f'lastgood drill --sign {sealed.evidence.run} --by NAME')}",
            )
        ]
    )


def _label(phase: str) -> str:
    """Return the label of a bar: the chart has room for a few words."""
    name, _, part = phase.partition(".")
    # A dot marks parts of a phase.
    return f"· {part.replace('_', ' ')}" if part else _BARS.get(name, name)


def _picture(found: DrillEvidence | StoreEvidence) -> str:
    if isinstance(found, DrillEvidence):
        bars = [Bar(_label(each.name), each.begin, each.begin + each.seconds, each.outcome) for each in found.phases]
        return timeline(title(found), bars)
    bars, begin = [], 0.0
    for point in found.points:
        bars.append(Bar(point.name, begin, begin + point.seconds, "done" if point.proved else "failed"))
        begin += point.seconds
    return timeline(title(found), bars)
