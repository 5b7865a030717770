"""The two sessions of a restore: the builder executes all that can run code of the restore point.

The order is the protection (docs/adr/0031-code-never-acts-as-the-operator.md):

1. ``first`` and ``admit``: the operator creates extensions, before anything of the restore point exists.
2. The builder loads, repairs and reads everything. It owns the objects, but not the database.
3. ``hand_over``: the builder's login has ended. The operator verifies the objects, and gives them their owners and
   grants. Event triggers come last, since they fire on the operator's commands.

Meanwhile a guard (an event trigger of the operator, where it is a superuser) refuses every change of a definition that
code makes: what is handed over is what the statements of the restore point made.
"""

from __future__ import annotations

import re
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import LiteralString

import psycopg
from psycopg import sql

from lastgood.dump.names import Relation
from lastgood.dump.rulings.code import DOMAIN, PARTITION
from lastgood.dump.rulings.objects import publication
from lastgood.dump.script import Item, ScriptStep, State
from lastgood.dump.statements import Command, Extension, Kind, Verdict
from lastgood.dump.summary import DumpSummary
from lastgood.errors import OR_TRUST, Refused
from lastgood.facts import Facts
from lastgood.load import by_operator, member_keys
from lastgood.load.definitions import Definitions
from lastgood.load.repairs.repair import CODE_TRIED, DEFINITIONS_CHANGE, INSUFFICIENT_PRIVILEGE
from lastgood.postgres.roles import build_role
from lastgood.postgres.roles.build_role import BuildRole
from lastgood.postgres.roles.second_login import CANNOT
from lastgood.postgres.server import Connection

Connect = Callable[[str], AbstractContextManager[Connection]]
"""A function that opens a session in the database that is built; its argument is the purpose."""

GUARD = "lastgood_guard"
RENEW_SECONDS = build_role.HOURS * 3600 / 4

# Run by the operator when all else is done: they run no code, and the builder may not run them.
_HANDED = frozenset(
    {
        Kind.DEFAULT_PRIVILEGES,
        Kind.GRANT,
        Kind.OWNER,
        Kind.ROW_SECURITY,  # the builder could not read all rows any more
        Kind.SECURITY_LABEL,
        Kind.USER_MAPPING,
    }
)
_LAST = frozenset({Kind.EVENT_TRIGGER, Kind.EVENT_TRIGGER_STATE})
_ON_EVENT_TRIGGER = re.compile(rb"(?:ALTER|COMMENT\s+ON)\s+EVENT\s+TRIGGER\b", re.IGNORECASE)
_COMMENT_ON_ANOTHERS = re.compile(
    rb"COMMENT\s+ON\s+(?:EXTENSION|LANGUAGE|CAST|SCHEMA\s+public|ACCESS\s+METHOD)\b", re.IGNORECASE
)
_IDENTITY = frozenset({"session_authorization", "role"})
_LAST_OID = (1 << 32) - 1
_OF_LARGE_OBJECT = re.compile(rb"(.*?\bLARGE\s+OBJECT\s+)(\d+)(.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Divided:
    """The items of a script by their session and time: ``first``, ``handed`` and ``last`` are the operator's."""

    first: Sequence[ScriptStep]
    main: Sequence[Item]
    handed: Sequence[ScriptStep]
    last: Sequence[ScriptStep]


def divided(items: Iterable[Item]) -> Divided:
    """Divide a script. Extensions come first with the schemas that they need."""
    items = list(items)
    extensions = [each.command.detail for each in items if isinstance(each, ScriptStep) and _is_extension(each)]
    schemas = {each.schema for each in extensions if isinstance(each, Extension) and each.schema is not None}
    first, main, handed, last = [], [], [], []
    for item in items:
        if not isinstance(item, ScriptStep) or item.command.verdict is Verdict.SKIP:
            main.append(item)
        elif _is_extension(item) or _creates_schema(item.command, schemas):
            first.append(item)
        elif is_last(item.command):
            last.append(item)
        elif is_handed(item.command):
            handed.append(item)
        else:
            main.append(item)
    return Divided(first, main, handed, last)


# Constructs that run code when a command is only read, or on empty tables.
_RUN_WHEN_READ = frozenset({DOMAIN, PARTITION})


def runs_when_read(summary: DumpSummary) -> bool:
    """Whether to read a command of a dump may run code: settings must be set again between commands then."""
    return not _RUN_WHEN_READ.isdisjoint(summary.code)


SETS_ROLE = "the dump sets the role of the session for the objects that it creates"
CHOOSE_ANOTHER = (
    f"Choose a restore point that was made without --use-set-session-authorization: lastgood points. {OR_TRUST}"
)


def sets_role(items: Iterable[Item]) -> bool:
    """Whether a script creates objects as other roles: the builder cannot become them, and their owners would be
    lost."""
    return any(
        isinstance(item, ScriptStep)
        and item.command.verdict is not Verdict.SKIP
        and item.command.creates
        and any(name in _IDENTITY for name, _ in item.state)
        for item in items
    )


def _is_extension(step: ScriptStep) -> bool:
    return step.command.kind is Kind.EXTENSION and step.command.verdict is not Verdict.SKIP


def is_last(command: Command) -> bool:
    """Whether the operator runs a command when all else is done: an event trigger would fire."""
    return command.kind in _LAST or bool(_ON_EVENT_TRIGGER.match(command.statement.text))


def is_handed(command: Command) -> bool:
    """Whether the operator runs a command when the builder's login has ended."""
    return command.kind in _HANDED or bool(_COMMENT_ON_ANOTHERS.match(command.statement.text))


def _creates_schema(command: Command, schemas: Iterable[str]) -> bool:
    return command.kind is Kind.SCHEMA and any(
        made.identity in schemas or made.identity.strip('"').replace('""', '"') in schemas for made in command.creates
    )


@dataclass(slots=True)
class Builder:
    """A restore by two sessions. ``connect`` opens one of the builder, ``operator`` one of the operator, both in the
    database that is built. ``within``: the schemas that are built in a database in service; empty for a database of its
    own. ``renewed``: when the login was last renewed, of the monotonic clock. ``renews``: settings are set again
    between commands, because reading one may run code that changes the meaning of the next. ``definitions``: those that
    code must not change; None where it cannot. The rest is collected during the load, for ``hand_over``;
    ``unpopulated``: the materialized views that the builder may not refresh.
    """

    role: BuildRole
    connect: Connect
    operator: Connect
    within: tuple[str, ...] = ()
    renewed: float = field(default_factory=time.monotonic)
    handed: list[tuple[Command, State]] = field(default_factory=list)
    last: list[tuple[Command, State]] = field(default_factory=list)
    large_objects: dict[tuple[bytes, bytes], array[int]] = field(default_factory=dict)
    renews: bool = False
    definitions: Definitions | None = field(default_factory=Definitions)
    unpopulated: list[Relation] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self.connect = partial(self._logged_in, self.connect)

    def _logged_in(self, connect: Connect, purpose: str) -> AbstractContextManager[Connection]:
        """Open a session of the builder, whose login must not have expired meanwhile."""
        with self._lock:
            if not self.role.lent and time.monotonic() - self.renewed > RENEW_SECONDS:
                with self.operator("renew the login") as connection:
                    build_role.renew(connection, self.role.name)
                self.renewed = time.monotonic()
        return connect(purpose)

    def note(self, script: Divided) -> None:
        """Remember the operator's part of a script. Raises Refused if it creates objects as other roles."""
        if sets_role(script.main):
            raise Refused(f"{CANNOT}: {SETS_ROLE}", hint=CHOOSE_ANOTHER)
        self.handed = [(step.command, step.state) for step in script.handed]
        self.last = [(step.command, step.state) for step in script.last]

    def present(self, expected: Facts, *, handed: bool = False) -> Facts:
        """The facts without what comes with the hand-over; ``handed``: only without event triggers."""
        later = self.last if handed else (*self.handed, *self.last)
        gone = {(str(made.kind), made.identity) for command, _ in later for made in command.creates}
        altered = frozenset() if handed else self.altered_later
        if not gone and not altered:
            return expected
        counts = Counter(expected.object_counts)
        counts.subtract(kind for kind, _ in gone if kind in counts)
        objects = tuple(
            each.model_copy(update={"digest": None}) if (each.kind, each.identity) in altered else each
            for each in expected.objects
            if (each.kind, each.identity) not in gone
        )
        return expected.model_copy(update={"object_counts": dict(counts), "objects": objects})

    @property
    def altered_later(self) -> frozenset[tuple[str, str]]:
        """The tables and publications whose definition is incomplete before the hand-over, by kind and identity."""
        commands = [command for command, _ in self.handed]
        tables = {("table", str(each.relations[0])) for each in commands if each.kind is Kind.ROW_SECURITY}
        return frozenset(tables | {("publication", publication(e)) for e in commands if e.kind is Kind.PUBLICATION})

    def keep(self, command: Command) -> bool:
        """Keep an owner or a grant of a large object for later. False: the builder can run the command."""
        if command.kind not in (Kind.OWNER, Kind.GRANT):
            return False
        found = _OF_LARGE_OBJECT.match(command.statement.text)
        if found is None or int(found[2]) > _LAST_OID:
            return False  # for the second one, the server has a message
        with self._lock:
            self.large_objects.setdefault((found[1], found[3]), array("L")).append(int(found[2]))
        return True

    def takes(self, command: Command, state: State, error: psycopg.Error) -> bool:
        """Whether the operator runs a command that the builder may not: at once, or when all else is done. The server's
        refusal is ``error``."""
        if error.sqlstate != INSUFFICIENT_PRIVILEGE:
            return False
        if by_operator.evaluates_nothing(command, state):
            with self._lock:
                self.handed.append((command, state))
            return True
        if command.kind is Kind.REFRESH and self.within:
            self.unpopulated.append(command.relations[0])
            return True
        if command.kind is Kind.FOREIGN_KEY and not self.within:
            return member_keys.add(self.operator, self.connect, command)
        with self.operator("create an object for the builder") as connection:
            if not by_operator.harmless(connection, command) and not (
                self.within and by_operator.reads_no_code(connection, command, self.within)
            ):
                return False
            with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
                for name, setting in state:
                    if name not in _IDENTITY:
                        with suppress(psycopg.Error), connection.transaction():  # a setting of another version
                            connection.execute(setting.statement.text)
                connection.execute("SET check_function_bodies = off")  # to check one can run code
                connection.execute(command.statement.text)
                # Under the dump's, names in the next query could lead to its code.
                connection.execute("SET LOCAL search_path = ''")
                for statement in by_operator.given(connection, self.role.name):
                    connection.execute(statement)
                if self.definitions is not None and (asking := self.definitions.asking(command, connection)):
                    self.definitions.note(connection.execute(b"SELECT" + asking))
                return True
        return False

    def need(self, connection: Connection, schemas: Iterable[str]) -> None:
        """Let the builder look up names in these schemas of a database in service, as far as the operator may grant
        it, and where it opens no function with the rights of its owner. ``connection`` is the operator's."""
        for (statement,) in connection.execute(_LOOKING_UP, [self.role.name, self.role.name, list(schemas)]).fetchall():
            connection.execute(str(statement).encode())

    def admit(self, connection: Connection) -> None:
        """Give the builder what it needs besides its own objects, and set up the guard. ``connection`` is the
        operator's."""
        if self.within:
            self._enter(connection)
            return
        self.grant(connection)
        if connection.info.parameter_status("is_superuser") == "on":
            with connection.transaction():
                for part in _GUARD:
                    connection.execute(part)
            self.definitions = None  # the guard refuses each change

    def _enter(self, connection: Connection) -> None:
        """Let the builder create in the schemas. A guard would fire on commands of the application."""
        connection.execute(
            sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}").format(
                sql.SQL(", ").join(map(sql.Identifier, self.within)), sql.Identifier(self.role.name)
            )
        )
        for (statement,) in connection.execute(_TABLESPACES, {"role": self.role.name}).fetchall():
            connection.execute(str(statement).encode())
        self.definitions = None  # the hand-over compares the text of all definitions

    def grant(self, connection: Connection) -> None:
        """Let the builder use the members of extensions; to be repeated when these change."""
        if self.within:
            return
        rights = _OF_ROWS + ", MAINTAIN" * (connection.info.server_version >= 170000)
        values = {"role": self.role.name, "rights": rights}
        for (statement,) in connection.execute(_ADMITTING, values).fetchall():
            connection.execute(str(statement).encode())
        superuser = connection.info.parameter_status("is_superuser") == "on"
        if superuser and connection.execute(_SECURED_MEMBERS).fetchone() is not None:
            connection.execute(sql.SQL("ALTER ROLE {} BYPASSRLS").format(sql.Identifier(self.role.name)))


_TABLESPACES: LiteralString = """
SELECT pg_catalog.format('GRANT CREATE ON TABLESPACE %%I TO %%I', spcname, %(role)s::text)
FROM pg_catalog.pg_tablespace
WHERE spcname NOT IN ('pg_default', 'pg_global') AND pg_catalog.pg_has_role(spcowner, 'USAGE')
"""
# A role without the grant option would only get a warning. A schema that is closed to PUBLIC may protect functions with
# the rights of their owner, which PUBLIC may execute by default.
_LOOKING_UP: LiteralString = """
SELECT pg_catalog.format('GRANT USAGE ON SCHEMA %%I TO %%I', nspname, %s::text) FROM pg_catalog.pg_namespace n
WHERE pg_catalog.has_schema_privilege(n.oid, 'USAGE WITH GRANT OPTION')
  AND NOT pg_catalog.has_schema_privilege(%s, n.oid, 'USAGE') AND nspname = ANY (%s)
  AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = n.oid
      AND (p.prosecdef OR EXISTS (
        SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'
          AND e.extname = 'pg_cron'))
      AND EXISTS (SELECT FROM pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a
                  WHERE a.grantee = 0))
"""
# Not TRIGGER or REFERENCES on members of extensions: code in a trigger, or in a cast of a key, would run as their
# owner.
_OF_ROWS = "SELECT, INSERT, UPDATE, DELETE"
_ADMITTING: LiteralString = (
    """
SELECT pg_catalog.format('GRANT USAGE, CREATE ON SCHEMA %%I TO %%I', nspname, %(role)s::text)
FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
UNION ALL
SELECT pg_catalog.format('GRANT %%s ON %%s %%s TO %%I', CASE c.relkind WHEN 'S' THEN 'ALL' ELSE %(rights)s END,
         CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::pg_catalog.regclass, %(role)s::text)
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid
WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'e' AND d.objsubid = 0
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
UNION ALL
SELECT pg_catalog.format('GRANT USAGE ON FOREIGN DATA WRAPPER %%I TO %%I', fdwname, %(role)s::text)
FROM pg_catalog.pg_foreign_data_wrapper
UNION ALL
"""
    + _TABLESPACES
)
_SECURED_MEMBERS = """
SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid
WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'e' AND c.relrowsecurity LIMIT 1
"""
# A statement of a session has one line of context, that of the guard. In code, the callers follow.
_GUARD: tuple[LiteralString, ...] = (
    f"CREATE SCHEMA {GUARD}",
    f"""COMMENT ON SCHEMA {GUARD} IS '{{"tool":"lastgood","guard":"refuses changes by code while a restore runs"}}'""",
    f"""
    CREATE FUNCTION {GUARD}.refuse() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    DECLARE context text;
    BEGIN
      GET DIAGNOSTICS context = PG_CONTEXT;
      IF strpos(context, E'\\n') > 0 THEN
        RAISE EXCEPTION '{CODE_TRIED} %', tg_tag
          USING ERRCODE = 'insufficient_privilege', HINT = '{DEFINITIONS_CHANGE}';
      END IF;
    END $$
    """,
    f"CREATE EVENT TRIGGER {GUARD} ON ddl_command_start EXECUTE FUNCTION {GUARD}.refuse()",
    f"ALTER EVENT TRIGGER {GUARD} ENABLE ALWAYS",
)
UNGUARD: tuple[LiteralString, ...] = (
    f"DROP EVENT TRIGGER IF EXISTS {GUARD}",
    f"DROP SCHEMA IF EXISTS {GUARD} CASCADE",
)
