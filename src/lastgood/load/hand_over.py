"""The hand-over of a database that a builder made: verified, then given to its owners, with its grants.

Nothing here executes code of the restore point: ALTER … OWNER, GRANT, COMMENT, ENABLE ROW LEVEL SECURITY and reads of
the catalogue run none, on any supported version. Nor do the triggers, policies and publications that the builder was
denied: their expressions name only what is the server's own. Event triggers would, and therefore come last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.context import Context
from lastgood.dump.deferral import Division
from lastgood.dump.script import State
from lastgood.dump.statements import NEXT, Command, Kind
from lastgood.errors import Failed
from lastgood.facts import Facts
from lastgood.facts.objects import KINDS, read_objects
from lastgood.load import servers_rights
from lastgood.load.builder import UNGUARD, Builder
from lastgood.load.loaded import Loaded
from lastgood.load.rebuild import SHOWN, Dump, compared
from lastgood.load.repairs import Commands, Record, Rules
from lastgood.load.repairs.foreign_keys import accepted
from lastgood.load.session import LoadSession
from lastgood.postgres.errors import failed
from lastgood.postgres.mark import forget_marks
from lastgood.postgres.roles import build_role, lent_role
from lastgood.postgres.server import Connection, Target
from lastgood.text.redact import visible
from lastgood.text.units import counted

# Objects in a transaction: each needs a lock, and the server's lock table is small.
AT_ONCE = 200
ANOTHER_POINT = "Choose another restore point: lastgood points. Find out who created this code."
# Not part of definitions: these commands need no second comparison.
_UNSEEN = frozenset({Kind.COMMENT, Kind.DEFAULT_PRIVILEGES, Kind.GRANT, Kind.OWNER, Kind.SECURITY_LABEL})


class CodeActed(Failed):
    """Code of the restore point changed what it must not change."""

    code = "code_acted"
    lines = True


def hand_over(
    builder: Builder,
    dump: Dump,
    rules: Rules,
    loaded: Loaded,
    context: Context,
    *,
    maintenance: Connection,
    operator: Target,
) -> None:
    """Close the builder, verify the objects, give them their owners and grants, and drop the builder's role. To be
    called after all reading, before ``create_event_triggers``. ``operator``: the server with the operator's address.

    Raises CodeActed, and Failed when a command fails. Nothing but the new database was changed then.
    """
    role = builder.role
    close_unchanged(maintenance, role)
    with builder.operator("hand over") as connection:
        for statement in UNGUARD:
            connection.execute(statement)
        _verify(connection, builder.present(dump.facts), dump.division, builder)
        fault.point("build.verified")
        commands = Commands(dump.name, rules, context)
        commands.record = Record(skipped=loaded.skipped, repaired=loaded.repaired)
        session = LoadSession(connection, commands, loaded, beside_code=True)
        run_handed(session, builder)
        servers_rights.follow_live(connection, rules, loaded, context.emit)
        try:
            _large_objects(connection, builder)
            give_rest(connection, role.name)
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role.name)))
            forget_marks(connection)
        except psycopg.Error as error:
            raise failed(error, "give the restored objects to their owners", context="privileges") from error
        if not _UNSEEN.issuperset(command.kind for command, _ in builder.handed):
            left_out = {what for what, _ in loaded.skipped} if rules.copy else set()
            expected = without(builder.present(dump.facts, handed=True), left_out)
            _verify(connection, expected, dump.division, builder)
        fault.point("build.handed_over")
    if not role.lent:
        build_role.end(maintenance, operator, role.name)


def close_unchanged(maintenance: Connection, role: build_role.BuildRole) -> None:
    """End the builder's sessions and its login. Raises CodeActed if code could have opened sessions of its own."""
    changed = build_role.changed_password(maintenance, role)
    close(maintenance, role)
    fault.point("build.closed")
    if changed:
        raise CodeActed(
            "cannot use the restored database: code in the restore point changed the password of the role that ran it",
            hint=ANOTHER_POINT,
        )


def close(maintenance: Connection, role: build_role.BuildRole) -> None:
    """End the builder's sessions and its login, at least to the database that it built. Raises Failed."""
    if role.lent:
        lent_role.close(maintenance, role)
    else:
        build_role.close(maintenance, role.name)


def create_event_triggers(builder: Builder, dump: Dump, rules: Rules, loaded: Loaded, context: Context) -> None:
    """Create the event triggers. They fire on DDL of the operator, even with session_replication_role = replica: none
    may follow in this database. Raises Failed."""
    if builder.last:
        with builder.operator("create event triggers") as connection:
            commands = Commands(dump.name, rules, context)
            commands.record = Record(skipped=loaded.skipped, repaired=loaded.repaired)
            _run(LoadSession(connection, commands, loaded, beside_code=True), builder.last)


def _verify(connection: Connection, expected: Facts, division: Division | None, builder: Builder) -> None:
    """Compare the names of all objects with the restore point's, and the definitions where it has them. The builder is
    gone: nothing can change or fake the result."""
    found = read_objects(connection)
    counts = Counter(dict.fromkeys(KINDS, 0))
    counts.update(each.kind for each in found)
    definitions = expected.model_copy(update={"tables": (), "sequences": ()})
    # Another major version may write equal definitions in another way.
    rules = expected.rules.model_copy(update={"server_major": connection.info.server_version // 10000})
    other = definitions.model_copy(
        update={"objects": found, "object_counts": dict(sorted(counts.items())), "rules": rules}
    )
    comparison = accepted(connection, compared(definitions, other, (), division))
    lines = [f"{each.what}: expected {each.expected}, found {each.found}" for each in comparison.differences]
    lines += _changed(connection, builder)
    _refuse(lines)


def refuse_changed(connection: Connection, builder: Builder) -> None:
    """Raise CodeActed if code changed a definition. ``connection``: the operator's, when the builder's login has
    ended."""
    _refuse(_changed(connection, builder))


def _changed(connection: Connection, builder: Builder) -> list[str]:
    if builder.definitions is None:
        return []
    lines = builder.definitions.changed(connection)
    builder.definitions = None  # owners and grants follow, which write the catalogue's rows again
    return lines


def _refuse(lines: Sequence[str]) -> None:
    if lines:
        raise CodeActed(
            f"cannot use the restored database: {counted(len(lines), 'definition')} "
            f"{'is' if len(lines) == 1 else 'are'} not as in the restore point"
            + "".join(f"\n  {visible(line)}" for line in lines[:SHOWN])
            + (f"\n  … and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""),
            hint=ANOTHER_POINT,
        )


def without(facts: Facts, left_out: Collection[str]) -> Facts:
    """The facts without some objects, each as ``kind identity``."""
    gone = {(each.kind, each.identity) for each in facts.objects if f"{each.kind} {each.identity}" in left_out}
    if not gone:
        return facts
    counts = Counter(facts.object_counts)
    counts.subtract(kind for kind, _ in gone if kind in counts)
    objects = tuple(each for each in facts.objects if (each.kind, each.identity) not in gone)
    return facts.model_copy(update={"objects": objects, "object_counts": dict(counts)})


def run_handed(session: LoadSession, builder: Builder) -> None:
    """Run the commands that the operator runs when the builder's login has ended, in the dump's order."""
    _run(session, sorted(builder.handed, key=_place))


def _run(session: LoadSession, commands: Iterable[tuple[Command, State]]) -> None:
    """Run commands in order; those with the same settings together."""
    together: list[Command] = []
    state: State = ()
    for command, wanted in commands:
        if together and (wanted is not state or len(together) >= AT_ONCE):
            session.enter(state)
            session.run_together(together)
            together = []
        state = wanted
        together.append(command)
    if together:
        session.enter(state)
        session.run_together(together)
    session.enter(())


def _place(handed: tuple[Command, State]) -> int:
    """The place of a command in the dump: some were added when the builder could not run them."""
    return handed[0].statement.offset


def _large_objects(connection: Connection, builder: Builder) -> None:
    for (before, after), oids in builder.large_objects.items():
        remaining = iter(oids)
        while some := list(islice(remaining, AT_ONCE)):
            connection.execute(NEXT.join(before + str(oid).encode() + after for oid in some))


# What belongs to the role, tables first: their sequences go with them. Types of tables are not listed.
_OWNED = """
SELECT (i).type, (i).identity, s.classid = 'pg_catalog.pg_class'::regclass FROM pg_catalog.pg_shdepend s
CROSS JOIN LATERAL (SELECT pg_catalog.pg_identify_object(s.classid, s.objid, s.objsubid) AS i) o
WHERE s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND s.deptype = 'o' AND s.refclassid = 'pg_catalog.pg_authid'::regclass
  AND s.refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s)
  AND (s.classid <> 'pg_catalog.pg_class'::regclass
       OR NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = s.classid AND d.objid = s.objid
                      AND d.deptype IN ('a', 'i') AND d.refclassid = s.classid AND d.objsubid = 0
                      AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = s.objid AND c.relkind = 'S')))
ORDER BY 3 DESC, 1, 2
"""
_MANY = 500


def give_rest(connection: Connection, role: str) -> None:
    """Give all objects that still belong to the role to this one."""
    owned = connection.execute(_OWNED, [role]).fetchall()
    of_relations = [sql.SQL("ALTER {} {} OWNER TO CURRENT_USER").format(sql.SQL(kind.upper()), sql.SQL(identity))
                    for kind, identity, relation in owned if relation]  # fmt: skip
    if len(owned) > _MANY:
        remaining: Iterator[sql.Composed] = iter(of_relations)
        while some := list(islice(remaining, AT_ONCE)):
            connection.execute(sql.SQL("; ").join(some))
    connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(role)))
