"""The hand-over of staging schemas that a role without rights built in the live database.

The role owns nothing but staging, and has no right on anything else but what every role has. The rows are read after
its login has ended. Then the operator gives owners and grants, and the text of all definitions is compared with the
rewritten ones (``prove``): what code of the restore point added or changed shows there.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.context import Context
from lastgood.dump.names import Relation
from lastgood.dump.rulings.tree import qualified
from lastgood.dump.script import ScriptStep
from lastgood.errors import OR_TRUST, Failed
from lastgood.facts import Facts
from lastgood.in_place.build.left_out import LeftOut
from lastgood.in_place.definitions import owners
from lastgood.in_place.definitions.rewrite import Rewritten
from lastgood.in_place.platform import foreign_key_rules, keys
from lastgood.in_place.platform.keys import PlatformKey
from lastgood.in_place.ties import queries
from lastgood.load import hand_over
from lastgood.load.builder import Builder
from lastgood.load.hand_over import CodeActed
from lastgood.load.loaded import Loaded
from lastgood.load.rebuild import SHOWN
from lastgood.load.repairs import Commands, Record, Rules
from lastgood.load.session import LoadSession
from lastgood.postgres.errors import failed
from lastgood.postgres.roles import build_role
from lastgood.postgres.server import Connection, Target
from lastgood.text.redact import visible
from lastgood.text.units import counted

# Parents may be deleted between two looks.
ROUNDS = 3


@dataclass(slots=True)
class Confined:
    """The role that builds staging, and what is needed to end it. ``operator``: a target of the same server with the
    operator's address. ``admitted``: the owners that may create in staging for the hand-over."""

    builder: Builder
    maintenance: Connection
    operator: Target
    rules: Rules
    loaded: Loaded = field(default_factory=Loaded)
    admitted: frozenset[str] = frozenset()


def names_outside(rewritten: Rewritten) -> frozenset[str]:
    """The schemas outside of staging that the rewritten definitions name."""
    staging = set(rewritten.schemas.values())
    return frozenset(
        name.schema
        for item in rewritten.summary.script.items
        if isinstance(item, ScriptStep)
        for name in qualified(item.command.statement.text.decode())
        if name.schema not in staging and not name.schema.startswith("pg_")
    )


def tie_to_platform(
    confined: Confined, rewritten: Rewritten, run: str, facts: Callable[[], Facts], cancelled: Callable[[], bool]
) -> tuple[LeftOut, ...]:
    """Add the foreign keys to tables that do not go back, and execute their rules for rows of deleted parents.

    The operator adds them NOT VALID, which reads no row. The builder validates those of tables whose definitions call
    functions: it may not read the other table, and the server then looks up each row with the rights of that table's
    owner. The operator validates the others when the builder's login has ended (``give``). Returns the rows that
    were left out. Raises Failed, Interrupted.
    """
    builder = confined.builder
    valid = [key for key in rewritten.keys if key.validated]
    left_out: tuple[LeftOut, ...] = ()
    with builder.operator("foreign keys") as operator:
        whole = [key for key in valid if keys.at_once(operator, key)]
        later = [key for key in rewritten.keys if key not in whole]
        # By a query the operator validates a table many times faster: once no code can change it any more.
        for_operator = [*whole, *keys.without_code(operator, [key for key in later if key.validated])]
    suspected: Sequence[PlatformKey] = for_operator
    for left in reversed(range(ROUNDS)):
        if suspected and _any_orphaned(builder, suspected):
            with (
                _switch_of_triggers(builder) as fire,
                builder.operator("parents") as operator,
                builder.connect("rules") as connection,
            ):
                parents = dict(_parents(operator, connection, suspected))
                newly = foreign_key_rules.apply(
                    connection, run, rewritten, facts, only=suspected, parents=parents, fire=fire
                )
            left_out = foreign_key_rules.combined(left_out, newly)
        with builder.operator("foreign keys") as operator:
            keys.add(operator, later, cancelled, validate=False)
        suspected = _validated_by_builder(builder, [key for key in valid if key not in for_operator], cancelled)
        if not suspected:
            return left_out
        if not left:
            raise keys.being_deleted(suspected[0])
        with builder.operator("foreign keys") as operator:
            keys.drop(operator, rewritten.schemas.values(), cancelled, only=suspected)
    return left_out


def _validated_by_builder(
    builder: Builder, some: Sequence[PlatformKey], cancelled: Callable[[], bool]
) -> Sequence[PlatformKey]:
    """Validate keys as the builder. Returns those that rows violate."""
    if not some:
        return ()
    with builder.connect("validate foreign keys") as connection:
        return keys.validate(connection, some, cancelled)


def _any_orphaned(builder: Builder, suspected: Sequence[PlatformKey]) -> bool:
    with builder.operator("parents") as operator, builder.connect("foreign keys") as connection:
        return foreign_key_rules.any_orphaned(connection, suspected, dict(_parents(operator, connection, suspected)))


@contextmanager
def _switch_of_triggers(builder: Builder) -> Iterator[foreign_key_rules.Fire]:
    """A function with which the builder's sessions execute the rules of foreign keys, and fire triggers, or neither:
    their own commands that change definitions are not to fire the event triggers of a platform. Only the operator may
    set this; the function has its rights."""
    name = sql.Identifier(builder.within[0], f"lastgood_fire_{secrets.token_hex(4)}")
    with builder.operator("create a function for the builder") as operator:
        operator.execute(
            sql.SQL(
                "CREATE FUNCTION {}(text) RETURNS text LANGUAGE sql SECURITY DEFINER BEGIN ATOMIC"
                " SELECT pg_catalog.set_config('session_replication_role', $1, false); END"
            ).format(name)
        )
        operator.execute(
            sql.SQL("GRANT EXECUTE ON FUNCTION {}(text) TO {}").format(name, sql.Identifier(builder.role.name))
        )
    yield lambda role: sql.SQL("SELECT {}({})").format(name, sql.Literal(role))
    with builder.operator("drop a function of the builder") as operator:
        operator.execute(sql.SQL("DROP FUNCTION {}(text)").format(name))


def _parents(
    operator: Connection, builder: Connection, suspected: Iterable[PlatformKey]
) -> Iterator[tuple[PlatformKey, str]]:
    """Copy the referenced columns into temporary tables of the builder, which may not read the tables themselves.
    Yields the name of each."""
    copied: dict[tuple[Relation, tuple[str, ...]], str] = {}
    for key in suspected:
        columns = (key.references, key.keys)
        if columns not in copied:
            copied[columns] = f"lastgood_parents_{len(copied)}"
            _copy(operator, builder, *columns, copied[columns])
        yield key, copied[columns]


def _copy(operator: Connection, builder: Connection, table: Relation, columns: Sequence[str], name: str) -> None:
    rows = operator.execute(_TYPES, [table.schema, table.name]).fetchall()
    types: dict[str, str] = {name: type_ for name, type_, _ in rows}
    # The server's own notation of a type.
    declared = sql.SQL(", ").join(sql.Identifier(each) + sql.SQL(" " + types[each]) for each in columns)
    copy = sql.Identifier("pg_temp", name)
    builder.execute(sql.SQL("CREATE TEMP TABLE {} ({})").format(sql.Identifier(name), declared))
    listed = sql.SQL(", ").join(map(sql.Identifier, columns))
    source = sql.Identifier(table.schema, table.name)
    # A query would run functions in the definitions of the table; a partitioned one cannot be copied without one.
    partitioned = any(row[2] for row in rows)
    taken = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT" if partitioned else "COPY {1} ({0}) TO STDOUT")
    with (
        operator.cursor().copy(taken.format(listed, source)) as reading,
        builder.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(copy)) as writing,
    ):
        for block in reading:
            writing.write(block)
    builder.execute(sql.SQL("ANALYZE {}").format(copy))


_TYPES = """
SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), c.relkind = 'p'
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
"""


def close(confined: Confined) -> None:
    """End the builder's access to staging, its sessions and its login. Raises CodeActed, Failed: what code created
    outside of staging, a cast for example, could otherwise run in later queries of the operator."""
    role = confined.builder.role
    with confined.builder.operator("close staging") as connection:
        connection.execute(
            sql.SQL("REVOKE ALL ON SCHEMA {} FROM {}").format(
                sql.SQL(", ").join(map(sql.Identifier, confined.builder.within)), sql.Identifier(role.name)
            )
        )
    hand_over.close_unchanged(confined.maintenance, role)
    with confined.builder.operator("look for other objects") as connection:
        _refuse(
            made_elsewhere(connection, role.name, list(confined.builder.within)),
            "created objects outside of the staging schemas",
        )


def give(confined: Confined, rewritten: Rewritten, name: str, cancelled: Callable[[], bool], context: Context) -> None:
    """Give the objects their owners and grants, add what the builder could not, and drop its role. To be called when
    the builder's login has ended and the rows were compared. Raises CodeActed, Failed, Interrupted."""
    builder, loaded = confined.builder, confined.loaded
    role, staging = builder.role, list(builder.within)
    with builder.operator("hand over") as connection:
        _validate(connection, rewritten, cancelled)
        commands = Commands(name, confined.rules, context)
        commands.record = Record(skipped=loaded.skipped, repaired=loaded.repaired)
        hand_over.run_handed(LoadSession(connection, commands, loaded, beside_code=True), builder)
        try:
            hand_over.give_rest(connection, role.name)
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role.name)))
        except psycopg.Error as error:
            raise failed(error, "give the restored objects to their owners", context="privileges") from error
        owners.dismiss(connection, staging, confined.admitted)
    fault.point("build.handed_over")
    if not role.lent:
        build_role.end(confined.maintenance, confined.operator, role.name)


def _refuse(found: Sequence[str], what: str) -> None:
    if found:
        raise CodeActed(
            f"cannot use the restored schemas: code in the restore point {what} ({counted(len(found), 'object')})"
            + "".join(f"\n  {visible(each)}" for each in found[:SHOWN]),
            hint=hand_over.ANOTHER_POINT,
        )


def left_to_refresh(confined: Confined, rewritten: Rewritten) -> Rewritten:
    """The definitions with the views that the builder could not refresh among those to be refreshed after the switch.
    Their queries may call any function, also by the server's own ones that execute a text: not for the operator."""
    live = {staging: schema for schema, staging in rewritten.schemas.items()}
    views = [Relation(live.get(each.schema, each.schema), each.name) for each in confined.builder.unpopulated]
    return replace(rewritten, refresh=tuple(dict.fromkeys((*rewritten.refresh, *views))))


def made_elsewhere(connection: Connection, role: str, staging: Sequence[str]) -> list[str]:
    """What a role owns outside of its staging schemas, and what outside depends on objects in them, in words."""
    internal = {oid for (oid,) in connection.execute("SELECT oid::int8 FROM pg_catalog.pg_trigger WHERE tgisinternal")}
    return [
        *(what for (what,) in connection.execute(_ELSEWHERE, [role, staging])),
        *(
            each.what
            for each in queries.dependents(connection, staging)
            if each.catalogue != "pg_trigger" or each.oid not in internal
        ),
    ]


# Temporary objects ended with their sessions. Names of pg_identify_object are quoted where necessary.
_ELSEWHERE = """
SELECT i.type || ' ' || i.identity FROM pg_catalog.pg_shdepend s
CROSS JOIN LATERAL pg_catalog.pg_identify_object(s.classid, s.objid, s.objsubid) i
WHERE s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND s.deptype = 'o' AND s.refclassid = 'pg_catalog.pg_authid'::regclass
  AND s.refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s)
  AND coalesce(i.schema, '') <> ALL (ARRAY(SELECT pg_catalog.quote_ident(x) FROM pg_catalog.unnest(%s::text[]) x))
  AND coalesce(i.schema, '') !~ '^pg_(temp|toast)'
ORDER BY 1
"""


def _validate(connection: Connection, rewritten: Rewritten, cancelled: Callable[[], bool]) -> None:
    """Validate the foreign keys that the builder did not, and add those that cannot be NOT VALID. The operator checks
    their rows, by a query over the table."""
    found = [key for key in rewritten.keys if key.validated and not keys.valid(connection, key)]
    safe = keys.without_code(connection, found)
    for key in found:
        if key not in safe:
            raise Failed(
                f"cannot validate {visible(key.what)}: definitions of the table call functions, which would run with "
                "your rights",
                hint=OR_TRUST,
            )
    if violated := keys.add(connection, found, cancelled):
        raise keys.being_deleted(violated[0])
