"""Code of a restore point that runs after the restore, with the rights of its owner or of any user: named in the plan,
and compared with the live database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, LiteralString

from lastgood.dump import names
from lastgood.dump.rulings.code import INDEX, STATISTICS
from lastgood.dump.rulings.tree import Node, only
from lastgood.dump.script import ScriptStep
from lastgood.dump.statements import Command, Kind, Verdict
from lastgood.dump.summary import DumpSummary
from lastgood.plan.plan import LaterCode
from lastgood.postgres.server import Connection

# Evaluated by ANALYZE and autovacuum with the rights of the table's owner.
_ANALYZED = frozenset({INDEX, STATISTICS})
_ROUTINES = frozenset({Kind.FUNCTION, Kind.PROCEDURE})
_LIVE_ROUTINES: LiteralString = """
SELECT pg_catalog.format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.oidvectortypes(p.proargtypes)),
       l.lanname::text, p.prosrc,
       ARRAY(SELECT pg_catalog.split_part(s, '=', 1) FROM pg_catalog.unnest(p.proconfig) s ORDER BY 1),
       p.prosqlbody IS NOT NULL, pg_catalog.pg_get_userbyid(p.proowner)::text
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.prosecdef
"""
_LIVE_TRIGGERS: LiteralString = """
SELECT evtname::text, evtevent::text,
       (pg_catalog.pg_identify_object('pg_catalog.pg_proc'::pg_catalog.regclass, evtfoid, 0)).identity,
       evtowner::regrole::text
FROM pg_catalog.pg_event_trigger
"""
_LIVE_TABLES: LiteralString = """
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname), pg_catalog.pg_get_userbyid(c.relowner)::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE pg_catalog.format('%%I.%%I', n.nspname, c.relname) = ANY (%s)
"""
_SUPERUSERS: LiteralString = "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolsuper"


def later_code(live: Connection, summary: DumpSummary) -> tuple[LaterCode, ...]:
    """The code, the new and changed first. Only the catalogue of ``live`` is read."""
    if not summary.code:
        return ()
    commands = [each.command for each in _steps(summary) if each.command.verdict is Verdict.RUN]
    routines = {each.creates[0].identity: node for each in commands if (node := _definer(each)) is not None}
    tables = {
        str(each.relations[0]): None for each in commands if each.relations and not _ANALYZED.isdisjoint(each.code)
    }
    triggers = {each.creates[0].identity: each for each in commands if each.kind is Kind.EVENT_TRIGGER and each.creates}
    if not (routines or tables or triggers):
        return ()
    superusers = {name for (name,) in live.execute(_SUPERUSERS)}
    owners = _owners(commands, {*routines, *tables}) if summary.has_owners else {}
    role = live.info.user
    found = [
        *_routines(live, routines, owners, role, superusers, stated=summary.has_owners),
        *_tables(live, tables, owners, role, superusers, stated=summary.has_owners),
        *_triggers(live, triggers),
    ]
    return tuple(sorted(found, key=lambda each: (each.against_live == "same", not each.superuser)))


def _steps(summary: DumpSummary) -> Iterator[ScriptStep]:
    return (item for item in summary.script.items if isinstance(item, ScriptStep))


def _definer(command: Command) -> Node | None:
    """The syntax tree of a routine with SECURITY DEFINER."""
    if command.kind not in _ROUTINES or not command.creates or b"SECURITY" not in command.statement.text.upper():
        return None
    node = only(command.statement.text)
    if node is None or not any(each.defname == "security" and each.arg.boolval for each in node.options or ()):
        return None
    return node


def _owners(commands: Iterable[Command], wanted: set[str]) -> dict[str, str]:
    """The owners that a dump gives to the wanted routines and tables."""
    owners: dict[str, str] = {}
    for command in commands:
        if command.kind is not Kind.OWNER or not command.roles or (node := only(command.statement.text)) is None:
            continue
        if node.tag == "AlterTableStmt":
            identity = str(names.of_range_var(node.relation, ""))
        elif node.objectType in ("OBJECT_FUNCTION", "OBJECT_PROCEDURE"):
            identity = names.function_identity(node.object.objname, node.object.objfuncargs, "")
        else:
            continue
        if identity in wanted:
            owners[identity] = command.roles[0]
    return owners


def _routines(
    live: Connection,
    routines: dict[str, Node],
    owners: dict[str, str],
    role: str,
    superusers: set[str],
    *,
    stated: bool,
) -> Iterator[LaterCode]:
    """``stated``: the dump has owners; what it gives to no role belongs to the role that restores it."""
    if not routines:
        return
    live_routines: dict[str, tuple[Any, ...]] = {row[0]: row[1:] for row in live.execute(_LIVE_ROUTINES)}
    for identity, node in routines.items():
        live_routine = live_routines.get(identity)
        owner = owners.get(identity) or (role if stated or live_routine is None else live_routine[4])
        yield LaterCode(
            kind="SECURITY DEFINER routine",
            name=identity,
            owner=owner,
            superuser=owner in superusers,
            against_live="new" if live_routine is None else "same" if _equal(node, owner, live_routine) else "changed",
        )


def _equal(node: Node, owner: str, live: tuple[Any, ...]) -> bool:
    language, source, settings, parsed, live_owner = live
    options = node.options or ()
    text = next((each.arg[0].sval for each in options if each.defname == "as"), None)
    wanted_language = next((str(each.arg.sval) for each in options if each.defname == "language"), "sql")
    given_settings = sorted(each.arg.name for each in options if each.defname == "set")
    return not parsed and (wanted_language, text, given_settings, owner) == (language, source, settings, live_owner)


def _tables(
    live: Connection, tables: dict[str, None], owners: dict[str, str], role: str, superusers: set[str], *, stated: bool
) -> Iterator[LaterCode]:
    """Tables of superusers: others run their expressions without rights that are worth stealing."""
    if not tables:
        return
    live_owners: dict[str, str] = dict(live.execute(_LIVE_TABLES, [list(tables)]).fetchall())
    for table in tables:
        owner = owners.get(table) or (role if stated else live_owners.get(table, role))
        if owner in superusers:
            yield LaterCode(
                kind="table with functions in indexes or statistics",
                name=table,
                owner=owner,
                superuser=True,
                against_live="new" if table not in live_owners else "not compared",
            )


def _triggers(live: Connection, triggers: dict[str, Command]) -> Iterator[LaterCode]:
    if not triggers:
        return
    live_triggers: dict[str, tuple[str, ...]] = {row[0]: row[1:] for row in live.execute(_LIVE_TRIGGERS)}
    for identity, command in triggers.items():
        node = only(command.statement.text)
        if node is None:
            continue
        live_trigger = live_triggers.get(node.trigname)
        calls = f"{names.of_list(node.funcname, '')}()"
        yield LaterCode(
            kind="login trigger" if node.eventname == "login" else "event trigger",
            name=identity,
            owner=live_trigger[2] if live_trigger is not None else "",
            superuser=True,  # no other role may own one
            against_live="new"
            if live_trigger is None
            else "not compared"
            if live_trigger[:2] == (node.eventname, calls)
            else "changed",
        )
