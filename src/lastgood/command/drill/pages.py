"""The evidence of a drill as a person files it: Markdown, one HTML page of the same, and the picture of its phases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from lastgood.command.drill.drill import Evidence, Sealed, StoreEvidence
from lastgood.command.rollback.show import VERDICTS
from lastgood.screen import markdown as md
from lastgood.screen.page import page
from lastgood.screen.timeline import Bar, timeline
from lastgood.text import units

PICTURE = "timeline.svg"
# With more tables than this the document is no more read; evidence.json has them all.
MOST_TABLES = 500
_BARS = {
    "point": "read the restore point",
    "server": "start the scratch server",
    "stand_in": "make a stand-in",
    "break": "break it",
    "rollback": "rollback",
    "validate": "validate",
    "undo": "undo",
    "compare": "compare",
    "guide": "by hand, by the guide",
    "clean": "clean up",
}


def files(sealed: Sealed) -> Mapping[str, str]:
    """What is written beside evidence.json."""
    found = sealed.evidence
    picture = _picture(found)
    text = md.document(*_blocks(sealed))
    return {
        "evidence.md": text,
        PICTURE: picture,
        "evidence.html": page(title(found), text, {PICTURE: picture}),
    }


def title(found: Evidence | StoreEvidence) -> str:
    """What the document is called."""
    what = "Drill" if isinstance(found, Evidence) else "Proof of every restore point"
    return f"{what} of {found.live}, {units.day(found.began)}: {found.status}"


def _blocks(sealed: Sealed) -> Iterator[str]:
    found = sealed.evidence
    yield f"# {md.text(title(found))}"
    yield from _of_drill(found) if isinstance(found, Evidence) else _of_store(found)
    yield from _seal(sealed)


def _of_drill(found: Evidence) -> Iterator[str]:
    if found.failure is not None:
        yield f"**It failed in the phase {md.code(found.failure.phase)}**: {md.text(found.failure.message)}"
        yield md.text(found.failure.hint)
    yield md.table(
        ("What", ""),
        [
            ("Result", f"**{found.status}**"),
            (
                "Live database",
                md.code(found.live) + (f", PostgreSQL {md.text(found.live_server)}" if found.live_server else ""),
            ),
            ("Began", units.moment(found.began)),
            ("Took", units.duration(found.seconds)),
            ("By", f"{md.text(found.by.user)} on {md.text(found.by.host)}"),
            ("Command", md.code(found.by.command) if found.by.command else ""),
            ("With", md.text(f"lastgood {found.by.lastgood}, Python {found.by.python}, {found.by.system}")),
            ("Scratch server", md.text(f"PostgreSQL {found.server.version}, {found.server.where}")),
            ("Restore point", md.code(Path(found.point.path).name)),
            ("Made", f"{units.moment(found.point.made_at)}, by its {md.text(found.point.time_source)}"),
            (
                "Holds",
                f"{units.counted(found.point.rows, 'row')} in {units.counted(found.point.tables, 'table')}, "
                f"{units.size(found.point.bytes)}",
            ),
            ("Its SHA-256", md.code(found.point_sha256)),
            ("SHA-256 of its tables", md.code(found.point_digest)),
            ("Run", md.code(found.run)),
        ],
    )
    yield "## What was shown"
    yield md.table(
        ("Proof", "Holds", "How it is known"),
        [(md.text(each.title), "yes" if each.holds else "**NO**", md.text(each.said)) for each in found.proofs],
    )
    yield "## How long it took"
    yield f"![Timeline]({PICTURE})"
    yield md.table(
        ("Phase", "Began after", "Took", "Bytes", "Rows", "Result"),
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
    yield "## What the stand-in went through before"
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


def _durations(found: Evidence) -> Iterator[str]:
    said = []
    if found.expected is not None:
        said.append(
            f"A rollback in earnest: {units.roughly(found.expected.seconds)} until the switch; writers wait "
            f"{units.roughly(found.expected.write_outage)}, readers {units.duration(found.expected.read_outage)} "
            f"({found.expected.basis})."
        )
    if found.compared is not None:
        said.append(
            f"Against the last drill that passed ({found.compared.run}): {found.compared.said}. Median of the last "
            f"drills: {units.duration(found.compared.median)}."
        )
    elif found.status == "passed":
        said.append("No earlier drill on this machine passed: there is nothing to compare with.")
    if found.due is not None and found.due.next is not None:
        said.append(f"The next drill is due on {units.day(found.due.next)}.")
    yield md.bullets(md.text(each) for each in said)


def _remarks(found: Evidence) -> Iterator[str]:
    remarks = [*found.server.remarks, *found.cautions]
    if found.server.roles_made:
        remarks.append(f"Roles made for it, without passwords, and removed: {', '.join(found.server.roles_made)}")
    if remarks:
        yield "## Remarks"
        yield md.bullets(md.text(each) for each in remarks)
    if found.left_out:
        yield "## What was not rehearsed"
        yield md.bullets(md.text(each) for each in found.left_out)


def _of_store(found: StoreEvidence) -> Iterator[str]:
    proved = sum(each.proved for each in found.points)
    yield (
        f"**{units.number(proved)} of {units.counted(len(found.points), 'restore point')}** were restored on a "
        "scratch server and are equal to what they should be."
    )
    yield md.table(
        ("What", ""),
        [
            ("Store", md.code(found.store)),
            ("Began", units.moment(found.began)),
            ("Took", units.duration(found.seconds)),
            ("By", f"{md.text(found.by.user)} on {md.text(found.by.host)}"),
            ("Command", md.code(found.by.command) if found.by.command else ""),
            ("With", md.text(f"lastgood {found.by.lastgood}, Python {found.by.python}, {found.by.system}")),
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
        ("Restore point", "Made", "Bytes", "Rows", "Tables", "Took", "Verdict", "SHA-256 of its tables"),
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
        f"SHA-256 of this evidence: {md.code(sealed.sha256)}. Whether anything was changed since, says "
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
        or [(False, f"not signed off yet: {md.code(f'lastgood drill --sign {sealed.evidence.run} --by NAME')}")]
    )


def _label(phase: str) -> str:
    """What a bar is called: the picture has room for a few words."""
    name, _, part = phase.partition(".")
    # Parts of a phase are set off, as there is no other sign for it.
    return f"· {part.replace('_', ' ')}" if part else _BARS.get(name, name)


def _picture(found: Evidence | StoreEvidence) -> str:
    if isinstance(found, Evidence):
        bars = [Bar(_label(each.name), each.begin, each.begin + each.seconds, each.outcome) for each in found.phases]
        return timeline(title(found), bars)
    bars, begin = [], 0.0
    for point in found.points:
        bars.append(Bar(point.name, begin, begin + point.seconds, "done" if point.proved else "failed"))
        begin += point.seconds
    return timeline(title(found), bars)
