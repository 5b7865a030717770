"""The restore point: its existence, its completeness and its age."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from lastgood.checklist import Finding, Passed
from lastgood.checks.subject import Subject
from lastgood.dump.names import Relation
from lastgood.dump.summary import DumpSummary
from lastgood.load.repairs import extensions
from lastgood.text.units import moment, span


def made(s: Subject) -> Iterator[Finding | Passed]:
    """The restore point, and what was verified of it; or that there is none."""
    if s.point is None:
        yield Finding(
            level="refusal", code="no_point", text=s.reading.problem, hint=s.reading.hint, known="measured", final=True
        )
        return
    made_at, seconds = s.point.made_at, (s.now - s.point.made_at).total_seconds()
    age = f"{span(seconds)} ago" if seconds > -1 else f"{span(seconds)} ahead of the server's clock"
    yield Passed(
        text=f"{s.point.path.name}, made {moment(made_at)} ({age}), by its {s.point.time_source}", known="looked up"
    )
    if s.facts is not None and s.summary is not None:
        yield Passed(
            text=f"definitions were read: {s.facts.summary} by its manifest; SHA-256 is verified while loading"
            if s.reading.unread_rows
            else f"read completely: {s.facts.summary}"
            + ("; it matches its manifest" if s.point.manifest is not None else ""),
            known="measured",
        )
    else:
        yield Passed(text=s.reading.evidence, known="measured")
    for each in s.reading.skipped:
        yield Finding(
            level="caution",
            code="skipped",
            text=f"a newer restore point failed verification: {each}",
            hint="Show where it is damaged: lastgood points verify",
            known="measured",
        )
    for each in s.reading.left_out:
        yield Finding(level="note", code="emergency_backups", text=each)


def age(s: Subject) -> Iterator[Finding]:
    """A restore point older than ``[check] max_age``, or made in the future."""
    if s.point is None:
        return
    old, most = s.now - s.point.made_at, s.request.check.max_age
    if most is not None and old > timedelta(seconds=most):
        yield Finding(
            level="caution",
            code="old_point",
            text=f"the restore point is {span(old.total_seconds())} old; [check] max_age is {span(most)}",
            hint="Make a newer one: lastgood backup",
        )
    if old < timedelta(minutes=-5):
        yield Finding(
            level="caution",
            code="future_point",
            text=f"the restore point is dated {moment(s.point.made_at)}, but the server's clock shows {moment(s.now)}",
            hint="Correct the clock that is wrong, and check which restore point is the newest: lastgood points",
        )


def same_database(s: Subject) -> Iterator[Finding]:
    """A dump of another database: it restores without an error, but is the wrong one."""
    if s.facts is not None and s.facts.database not in (None, s.database.name):
        yield Finding(
            level="caution",
            code="other_database",
            text=f'the restore point is a dump of database "{s.facts.database}", not of "{s.database.name}"',
        )


def changed(s: Subject) -> Iterator[Finding]:
    """Signs that the file was truncated after its end mark, or changed by a tool after pg_dump wrote it."""
    for text in s.summary.cautions if s.summary is not None else ():
        yield Finding(
            level="caution",
            code="changed_file",
            text=text,
            hint="Compare it with another copy of the restore point, or choose another one: lastgood points",
            known="measured",
        )


def partial(s: Subject) -> Iterator[Finding]:
    """Parts of a whole database that the restore point lacks."""
    if s.point is None or s.summary is None:
        return
    if lack := s.reading.lack:
        # Without rows of some tables it can be restored, where the loss is accepted; but no row may refer to them.
        final = not lack.restorable or lack.what != "rows" or (bool(s.reading.orphans) and not s.request.allow_orphans)
        refer = "".join(f"; {each}" for each in s.reading.orphans)
        yield Finding(
            level="refusal",
            code="partial_point",
            text=f"the restore point has no {lack.short}: it cannot replace a whole database{refer}",
            hint="Choose a complete one: lastgood points"
            + ("" if final else ". Or accept the loss: --override restore_point --reason TEXT"),
            known="measured",
            final=final,
        )
    if without := [*s.summary.rows_without_table, *_made_by_no_extension(s, s.summary)]:
        names = ", ".join(map(str, without))
        yield Finding(
            level="refusal",
            code="rows_without_table",
            text=f"the restore point has rows of {names}, but no such table: it cannot replace a whole database",
            hint="Restore it into a separate database: lastgood restore POINT --into NAME",
            known="measured",
            final=True,
        )


def _made_by_no_extension(s: Subject, summary: DumpSummary) -> list[Relation]:
    """Tables that the restore point leaves to its extensions, and that none of them creates in the live database. Empty
    where the live database lacks one of the extensions: then its tables are unknown."""
    installed = {name for (name,) in s.live.execute("SELECT extname FROM pg_catalog.pg_extension")}
    if not summary.rows_for_extensions or not summary.extensions.keys() <= installed:
        return []
    members = extensions.relations(s.live)
    return [relation for relation in summary.rows_for_extensions if relation not in members]
