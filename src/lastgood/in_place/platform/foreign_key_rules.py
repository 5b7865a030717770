"""The rules of foreign keys, executed in staging for rows whose parent in a table of the platform was deleted since the
restore point; see ``deleted_parents``.

The foreign keys among the staged tables cascade. The proof remains exact: each removed or changed row is digested."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import errors, sql

from lastgood.dump.names import Relation
from lastgood.errors import Failed
from lastgood.facts import Facts, TableFacts
from lastgood.facts.digest import MODULUS, RowsDigest
from lastgood.facts.of_database import pinned
from lastgood.facts.row_stream import digest_rows
from lastgood.in_place import marks
from lastgood.in_place.build.left_out import LeftOut
from lastgood.in_place.definitions.rewrite import Rewritten
from lastgood.in_place.platform.keys import PlatformKey
from lastgood.postgres import integrity
from lastgood.postgres.errors import message_of
from lastgood.postgres.server import Connection
from lastgood.text.redact import visible
from lastgood.text.units import counted

# The rules that this module executes.
_RULED = frozenset({"cascade", "set null", "set default"})
# All tables whose rows a deletion in the first one may delete or change.
_REACHED = """
WITH RECURSIVE
  edge (above, below) AS (
    SELECT confrelid, conrelid FROM pg_catalog.pg_constraint
    WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))
    UNION ALL SELECT inhparent, inhrelid FROM pg_catalog.pg_inherits),
  reached (oid) AS (
    SELECT oid::regclass::oid FROM unnest(%s::text[]) oid
    UNION SELECT edge.below FROM reached JOIN edge ON edge.above = reached.oid)
SELECT n.nspname, c.relname, c.relkind = 'r' FROM reached
JOIN pg_catalog.pg_class c ON c.oid = reached.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY (%s) ORDER BY 1, 2
"""
_TRIGGERS = """
SELECT tgname, tgenabled::text FROM pg_catalog.pg_trigger
WHERE tgrelid = %s::regclass AND NOT tgisinternal ORDER BY tgname
"""
_ENABLE = {"O": "ENABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}
_TRIGGER = "lastgood_left_out"


Fire = Callable[[str], sql.Composed]


def set_triggers(role: str) -> sql.Composed:
    """The command that sets session_replication_role."""
    return sql.SQL("SELECT pg_catalog.set_config('session_replication_role', {}, false)").format(sql.Literal(role))


def apply(
    connection: Connection,
    run: str,
    rewritten: Rewritten,
    facts: Callable[[], Facts],
    *,
    only: Iterable[PlatformKey] | None = None,
    parents: Mapping[PlatformKey, str] | None = None,
    fire: Fire = set_triggers,
) -> tuple[LeftOut, ...]:
    """Execute the rules of the foreign keys for rows in staging whose parent does not exist, in one transaction, which
    also records them in the marks of the staging schemas. ``facts`` gives those of staging before, with digests; it is
    called only if there is such a row. User-defined triggers do not fire. Returns the rows of this call, by table.

    ``only``: these keys, by default all. ``parents``: temporary tables with the referenced keys, for a session that may
    not read the tables themselves; it may not write the marks either, and the caller has to (``record``). ``fire``:
    makes the command that sets session_replication_role, by which event triggers may be off in the session.

    Raises Failed when a foreign key has no rule for a row, or when the tables are not exactly as expected afterwards.
    """
    with connection.transaction():
        orphaned = list(_orphaned(connection, rewritten.keys if only is None else only, parents))
        if not orphaned:
            return ()
        for key, _ in orphaned:
            if key.on_delete not in _RULED:
                raise Failed(
                    f"cannot apply {key.what}: referenced rows of {key.references} no longer exist",
                    hint="Recreate the referenced rows, or choose a newer restore point: lastgood points",
                )
        expected = facts()
        # As the restore point was written, so that the digests are comparable.
        for name, value in pinned(expected.rules):
            connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", [name, value])
        tables = {Relation(each.schema_name, each.name): each for each in expected.tables}
        with _recorded(connection, [key for key, _ in orphaned], rewritten, tables) as recorded:
            try:
                with _rules_in_force(connection, fire):
                    for key, catalogued in orphaned:
                        connection.execute(_statement(key, catalogued))
            except errors.IntegrityConstraintViolation as error:
                raise Failed(
                    f"cannot apply {visible(key.what)} to rows of deleted parents: {message_of(error)}",
                    hint="Recreate the referenced rows, or choose a newer restore point: lastgood points",
                ) from error
        changed = tuple(_changes(connection, recorded, rewritten, expected))
        if parents is None:
            record(connection, run, changed)
    return changed


@contextmanager
def _rules_in_force(connection: Connection, fire: Fire) -> Iterator[None]:
    """Within a transaction, whose end reverts the setting if a command fails."""
    before = connection.execute("SHOW session_replication_role").fetchone() or ("origin",)
    if before[0] != "origin":
        connection.execute(fire("origin"))
    yield
    if before[0] != "origin":
        connection.execute(fire(before[0]))


def any_orphaned(connection: Connection, keys: Iterable[PlatformKey], parents: Mapping[PlatformKey, str]) -> bool:
    """Whether ``apply`` would find rows whose parent does not exist."""
    return next(_orphaned(connection, keys, parents), None) is not None


def _orphaned(
    connection: Connection, keys: Iterable[PlatformKey], parents: Mapping[PlatformKey, str] | None
) -> Iterator[tuple[PlatformKey, integrity.ForeignKeyConstraint]]:
    for key in keys:
        if key.validated:
            catalogued = _catalogued(connection, key, parents[key] if parents is not None else None)
            query = sql.SQL("SELECT EXISTS (SELECT ") + integrity.orphans(catalogued) + sql.SQL(")")
            if (connection.execute(query).fetchone() or (False,))[0]:
                yield key, catalogued


def combined(one: Iterable[LeftOut], other: Iterable[LeftOut]) -> tuple[LeftOut, ...]:
    """The rows of both, one entry a table."""
    found: dict[tuple[str, str], LeftOut] = {}
    for each in (*one, *other):
        name = each.schema_name, each.table
        before = found.get(name)
        found[name] = each if before is None else _added(before, each)
    return tuple(found[name] for name in sorted(found))


def _added(one: LeftOut, other: LeftOut) -> LeftOut:
    return one.model_copy(
        update={
            "removed": one.removed + other.removed,
            "changed": one.changed + other.changed,
            "without": f"{(int(one.without, 16) + int(other.without, 16)) % MODULUS:032x}",
            "instead": f"{(int(one.instead, 16) + int(other.instead, 16)) % MODULUS:032x}",
        }
    )


def _catalogued(connection: Connection, key: PlatformKey, parents: str | None) -> integrity.ForeignKeyConstraint:
    """The foreign key as if the catalogue had it already, to the temporary table ``parents`` if there is one."""
    references = key.references if parents is None else Relation("pg_temp", parents)
    partitioned = [
        (connection.execute(_PARTITIONED, [each.schema, each.name]).fetchone() or (False,))[0]
        for each in (key.table, references)
    ]
    return integrity.ForeignKeyConstraint(
        schema_name=key.table.schema,
        table=key.table.name,
        name=key.name,
        other_schema=references.schema,
        other=references.name,
        validated=False,
        full=False,
        period=False,
        columns=key.columns,
        keys=key.keys,
        operators=(("pg_catalog", "="),) * len(key.columns),
        partitioned=partitioned[0],
        other_partitioned=partitioned[1],
    )


_PARTITIONED = """
SELECT c.relkind = 'p' FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""


def _statement(key: PlatformKey, catalogued: integrity.ForeignKeyConstraint) -> sql.Composed:
    """The deletion or change that the foreign key would execute."""
    orphans = integrity.orphans(catalogued)
    if key.on_delete == "cascade":
        return sql.SQL("DELETE ") + orphans
    value = sql.SQL("NULL" if key.on_delete == "set null" else "DEFAULT")
    changes = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(column), value) for column in key.set_columns or key.columns
    )
    return (
        sql.SQL("UPDATE {} SET {} WHERE (tableoid, ctid) IN (SELECT l.tableoid, l.ctid ").format(
            sql.Identifier(key.table.schema, key.table.name), changes
        )
        + orphans
        + sql.SQL(")")
    )


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A table, and the temporary tables with the rows before and after each change of one."""

    relation: Relation
    facts: TableFacts
    before: sql.Identifier
    after: sql.Identifier


@contextmanager
def _recorded(
    connection: Connection, keys: Iterable[PlatformKey], rewritten: Rewritten, tables: Mapping[Relation, TableFacts]
) -> Iterator[list[_Recorded]]:
    """Record all changes of rows during the block, in which only our own triggers fire."""
    named = [str(key.table) for key in keys]
    reached = [
        (Relation(schema, name), ordinary)
        for schema, name, ordinary in connection.execute(_REACHED, [named, list(rewritten.schemas.values())])
    ]
    states = {relation: connection.execute(_TRIGGERS, [str(relation)]).fetchall() for relation, _ in reached}
    recorded = []
    for number, (relation, ordinary) in enumerate(reached):
        table = sql.Identifier(relation.schema, relation.name)
        connection.execute(sql.SQL("ALTER TABLE ONLY {} DISABLE TRIGGER USER").format(table))
        if ordinary and relation in tables:
            recorded.append(_record(connection, number, relation, tables[relation]))
    yield recorded
    for each in recorded:
        table = sql.Identifier(each.relation.schema, each.relation.name)
        connection.execute(sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(_TRIGGER), table))
    for relation, triggers in states.items():
        table = sql.Identifier(relation.schema, relation.name)
        for name, enabled in triggers:
            if enabled in _ENABLE:
                state = sql.SQL("ALTER TABLE ONLY {} {} TRIGGER {}")
                connection.execute(state.format(table, sql.SQL(_ENABLE[enabled]), sql.Identifier(name)))


def _record(connection: Connection, number: int, relation: Relation, facts: TableFacts) -> _Recorded:
    table = sql.Identifier(relation.schema, relation.name)
    columns = [sql.Identifier(column) for column in facts.columns]
    places = []
    for side in ("before", "after"):
        name = f"lastgood_{side}_{number}"
        connection.execute(
            sql.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
                sql.Identifier(name), sql.SQL(", ").join(columns), table
            )
        )
        places.append(sql.Identifier("pg_temp", name))
    before, after = (
        sql.SQL("INSERT INTO {} VALUES ({})").format(
            place, sql.SQL(", ").join(sql.SQL("{}.{}").format(sql.SQL(row), column) for column in columns)
        )
        for place, row in zip(places, ("OLD", "NEW"), strict=True)
    )
    body = sql.SQL(
        "BEGIN IF TG_OP <> 'INSERT' THEN {}; END IF; IF TG_OP <> 'DELETE' THEN {}; END IF; RETURN NULL; END"
    ).format(before, after)
    function = sql.Identifier("pg_temp", f"lastgood_note_{number}")
    connection.execute(
        sql.SQL("CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql AS {}").format(
            function, sql.Literal(body.as_string(connection))
        )
    )
    connection.execute(
        sql.SQL("CREATE TRIGGER {} AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION {}()").format(
            sql.Identifier(_TRIGGER), table, function
        )
    )
    return _Recorded(relation, facts, *places)


def _changes(
    connection: Connection, recorded: Iterable[_Recorded], rewritten: Rewritten, expected: Facts
) -> Iterator[LeftOut]:
    """The changes of each table; its present content is compared with them. Raises Failed."""
    live = {staging: schema for schema, staging in rewritten.schemas.items()}
    encoding = expected.rules.client_encoding
    for each in recorded:
        without, instead = (_digest(connection, place, (), encoding) for place in (each.before, each.after))
        if not without.rows and not instead.rows:
            continue
        change = LeftOut(
            schema_name=live[each.relation.schema],
            table=each.relation.name,
            removed=without.rows - instead.rows,
            changed=instead.rows,
            without=without.hexdigest(),
            instead=instead.hexdigest(),
        )
        table = sql.Identifier(each.relation.schema, each.relation.name)
        now, wanted = _digest(connection, table, each.facts.columns, encoding), change.applied(each.facts)
        if now.rows != wanted.rows or wanted.digest not in (None, now.hexdigest()):
            raise Failed(
                f"cannot prove table {each.relation}: after the rows of deleted parents were left out, "
                f"{counted(wanted.rows, 'row')} with digest {wanted.digest} were expected, "
                f"and {counted(now.rows, 'row')} with digest {now.hexdigest()} found",
                hint="Run the command again. If it fails again, report this message.",
            )
        yield change


def _digest(connection: Connection, table: sql.Identifier, columns: Sequence[str], encoding: str) -> RowsDigest:
    listed = sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, columns))) if columns else sql.SQL("")
    copy = sql.SQL("COPY {}{} TO STDOUT").format(table, listed).as_string(connection)
    connection.execute("SELECT pg_catalog.set_config('client_encoding', %s, true)", [encoding])
    try:
        return digest_rows(connection, copy.encode("utf-8" if encoding == "SQL_ASCII" else connection.info.encoding))
    finally:
        connection.execute("SET LOCAL client_encoding = 'UTF8'")


def record(connection: Connection, run: str, changed: Sequence[LeftOut]) -> None:
    """Record rows that were left out in the marks of the staging schemas."""
    for each in marks.marked(connection, run=run, role="staging"):
        of_schema = [one for one in changed if one.schema_name == each.mark.live]
        if each.ours and of_schema:
            mark = each.mark.model_copy(update={"left_out": combined(each.mark.left_out, of_schema)})
            marks.write(connection, each.name, mark)
