"""Names that stand for OIDs in rows: the values of *regclass* and its siblings.

As a dump writes them, they would lead to the live objects, which the switch moves away. So the rows are loaded with the
names of the staging schemas, and the proof expects them so. After the switch they read as in the restore point."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lastgood.dump.names import Relation, quoted
from lastgood.dump.rows import encodings
from lastgood.dump.script import Bulk, Section
from lastgood.dump.statements import Command
from lastgood.errors import OR_TRUST, Interrupted, Refused
from lastgood.facts.digest import RowsDigest, split_lines, whole_lines
from lastgood.in_place.build.left_out import LeftOut
from lastgood.load.supply import Supply, supply_for
from lastgood.postgres.oid_columns import OidColumn
from lastgood.postgres.server import Connection
from lastgood.text.quoting import identifier
from lastgood.text.redact import visible

if TYPE_CHECKING:
    from lastgood.in_place.definitions.rewrite import Rewritten
    from lastgood.load.rebuild import Dump

_SCHEMA = re.compile(rb'(?:"((?:[^"]|"")+)"|([^."(,]+))\.')


@dataclass(slots=True)
class OidNames:
    """The sections of a dump with such values: ``places`` has the positions of their columns. ``changed``: the rows
    that staging has under other names. ``outside``: the schemas of names that stay."""

    names: Mapping[bytes, bytes]
    places: dict[int, tuple[int, ...]] = field(default_factory=dict)
    changed: tuple[LeftOut, ...] = ()
    outside: frozenset[str] = frozenset()

    def staged(self, lines: bytes, places: Collection[int]) -> bytes:
        """Whole lines of COPY text with the names of staging."""
        # At the beginning of a value, and of each type among the arguments of a function.
        start = re.compile(rb"(^|[(,])(" + b"|".join(map(re.escape, self.names)) + b")")
        found = []
        for line in split_lines(lines):
            fields = line.split(b"\t")
            for place in places:
                fields[place] = start.sub(lambda match: match[1] + self.names[match[2]], fields[place])
            found.append(b"\t".join(fields) + b"\n")
        return b"".join(found)


def in_rows(dump: Dump, rewritten: Rewritten, cancelled: Callable[[], bool]) -> OidNames:
    """Read the rows with such values. Raises Refused for arrays and composite values of names that change, BadPoint,
    Interrupted."""
    codec = encodings.codec(dump.summary.encoding) or "utf-8"
    found = OidNames({_prefix(live, codec): _prefix(staging, codec) for live, staging in rewritten.schemas.items()})
    by_table: dict[Relation, list[OidColumn]] = {}
    for column in rewritten.oid_columns:
        by_table.setdefault(Relation(column.schema_name, column.table), []).append(column)
    script = dump.summary.script
    sections = {each.number: each for each in script.sections if each.start.relation in by_table}
    if not sections:
        return found
    in_place = not dump.summary.notes
    supply = supply_for(dump.source, script, database=dump.summary.database, in_place=in_place, only=set(sections))
    outside: set[bytes] = set()
    changed: list[LeftOut] = []
    with closing(supply):
        for number, section in sections.items():
            listed = section.start.columns or ()
            columns = {
                listed.index(each.name): each for each in by_table[section.start.relation] if each.name in listed
            }
            places = tuple(place for place, column in columns.items() if column.scalar)
            without, instead = RowsDigest(), RowsDigest()
            for lines in whole_lines(supply.rows(section)):
                if cancelled():
                    raise Interrupted("interrupted while names of objects were read")
                for column, value in _values(lines, columns):
                    if not column.scalar and _mentions(value, rewritten.schemas, codec):
                        raise _refused(column, value, dump.name)
                    outside.update(_schemas(value))
                both = zip(split_lines(lines), split_lines(found.staged(lines, places)), strict=True)
                differing = [(before, after) for before, after in both if before != after]
                without.add_lines([before for before, _ in differing])
                instead.add_lines([after for _, after in differing])
            if instead.rows:
                found.places[number] = places
                changed.append(_changed(section.start.relation, without, instead))
    found.changed = tuple(changed)
    found.outside = frozenset(each.decode(codec) for each in outside) - rewritten.schemas.keys()
    return found


def _values(lines: bytes, columns: Mapping[int, OidColumn]) -> Iterator[tuple[OidColumn, bytes]]:
    for line in split_lines(lines):
        fields = line.split(b"\t")
        for place, column in columns.items():
            yield column, fields[place]


def _changed(relation: Relation, without: RowsDigest, instead: RowsDigest) -> LeftOut:
    return LeftOut(
        schema_name=relation.schema,
        table=relation.name,
        removed=0,
        changed=instead.rows,
        without=without.hexdigest(),
        instead=instead.hexdigest(),
    )


def refuse_closed(connection: Connection, role: str, schemas: Iterable[str], name: str) -> None:
    """Raise Refused if rows of the restore point ``name`` have names in a schema that the role may not enter: it could
    not load them."""
    for (schema,) in connection.execute(_CLOSED, [[*schemas], role]).fetchall():
        quoted_schema = identifier(schema)
        raise Refused(
            f'cannot restore "{visible(name)}" in place: rows with values of type regclass and the like name '
            f'objects of schema "{schema}", which the role without rights that loads them may not enter',
            hint=f"As the owner of schema {quoted_schema}, run: GRANT USAGE ON SCHEMA {quoted_schema} TO "
            f"{identifier(connection.info.user)} WITH GRANT OPTION. Or roll back by name: --by-name. {OR_TRUST}",
        )


_CLOSED = """
SELECT nspname FROM pg_catalog.pg_namespace
WHERE nspname = ANY (%s) AND NOT pg_catalog.has_schema_privilege(%s, oid, 'USAGE') ORDER BY 1
"""


def _prefix(schema: str, codec: str) -> bytes:
    """The beginning of a name in that schema, as COPY writes it."""
    return (quoted(schema) + ".").replace("\\", "\\\\").encode(codec)


def _schemas(value: bytes) -> Iterator[bytes]:
    for one, other in _SCHEMA.findall(value):
        yield one.replace(b'""', b'"') or other


def _mentions(value: bytes, schemas: Iterable[str], codec: str) -> bool:
    """Whether an array or a composite value may have a name in these schemas; its quotes depend on their depth."""
    bare = re.sub(rb'[\\"]', b"", value)
    return any(
        re.search(rb"(^|[^\w$])" + re.escape(re.sub(r'[\\"]', "", schema).encode(codec)) + rb"\.", bare)
        for schema in schemas
    )


def _refused(column: OidColumn, value: bytes, name: str) -> Refused:
    table, shown = Relation(column.schema_name, column.table), visible(value.decode("utf-8", "replace")[:60])
    return Refused(
        f'cannot restore "{visible(name)}" in place: column {quoted(column.name)} of {table} has type '
        f"{column.type}, and its value {shown} names objects that are exchanged",
        hint="Roll back by name (--by-name), or restore into another database: lastgood restore",
    )


class StagedNames:
    """A supply whose rows have the names of staging."""

    def __init__(self, supply: Supply, names: OidNames) -> None:
        self._supply = supply
        self._names = names
        self.in_order = supply.in_order

    def rows(self, section: Section) -> Iterator[bytes]:
        places = self._names.places.get(section.number)
        blocks = self._supply.rows(section)
        if places is None:
            return blocks
        return (self._names.staged(lines, places) for lines in whole_lines(blocks))

    def commands(self, bulk: Bulk) -> Iterator[Command]:
        return self._supply.commands(bulk)

    def close(self) -> None:
        self._supply.close()
