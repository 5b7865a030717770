"""Grants that were revoked since the restore point, and that a rollback brings back."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

from lastgood.dump.script import ScriptStep
from lastgood.dump.statements import Command, Kind
from lastgood.dump.summary import DumpSummary
from lastgood.facts import Facts
from lastgood.plan.loss import Revival
from lastgood.postgres.server import Connection

# The form of pg_dump: one object and one role in each statement, on one line.
_STATEMENT = re.compile(
    r"(?P<verb>GRANT|REVOKE) (?:GRANT OPTION FOR )?(?P<privileges>.+?) ON (?P<kind>TABLE|SEQUENCE|SCHEMA|FUNCTION|"
    r"PROCEDURE|TYPE) (?P<name>.+) (?:TO|FROM) (?P<role>\"(?:[^\"]|\"\")+\"|[\w$]+)(?: WITH GRANT OPTION)?\s*;?\s*",
    re.DOTALL,
)
_PRIVILEGE = re.compile(r'(\w+)\s*(?:\(((?:"(?:[^"]|"")+"|[^")])*)\))?')
_COLUMN = re.compile(r'"((?:[^"]|"")+)"|([^,\s]+)')
PUBLIC = "PUBLIC"
# Identities as pg_dump writes them; ``implied``: what PUBLIC has without a grant. ``every``: what ALL means. A pg_dump
# of an older version writes TABLE for a view, too; so do current ones.
_GRANTS = """
WITH object (schema, kind, identity, acl, owner, letter, known) AS (
  SELECT n.nspname, CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, format('%I.%I', n.nspname, c.relname),
         relacl, relowner, CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", ''
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  UNION ALL
  SELECT n.nspname, CASE prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
         format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), proacl, proowner,
         'f'::"char", format('%I.%I(%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes))
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                    AND d.deptype = 'e')
  UNION ALL
  SELECT nspname, 'SCHEMA', format('%I', nspname), nspacl, nspowner, 'n'::"char", '' FROM pg_namespace
  WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
  UNION ALL
  SELECT n.nspname, 'TABLE', format('%I.%I', n.nspname, c.relname), attacl, relowner, 'c'::"char", attname
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE attacl IS NOT NULL AND attnum > 0 AND NOT attisdropped AND n.nspname !~ '^pg_'
)
SELECT o.schema, o.kind, o.identity, CASE o.letter WHEN 'c' THEN o.known ELSE '' END,
       CASE o.letter WHEN 'f' THEN o.known ELSE '' END,
       (SELECT array_agg(privilege_type) FROM aclexplode(acldefault(o.letter, o.owner)) WHERE grantee = o.owner),
       (SELECT coalesce(array_agg(DISTINCT ARRAY[CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE format('%I', g.rolname) END,
                                                 x.privilege_type]), '{}')
        FROM aclexplode(coalesce(o.acl, acldefault(o.letter, o.owner))) x LEFT JOIN pg_roles g ON g.oid = x.grantee),
       format('%I', pg_get_userbyid(o.owner))
FROM object o
"""
_ROLES = "SELECT format('%I', rolname) FROM pg_roles WHERE NOT rolsuper"

_Object = tuple[str, str]
"""Kind and identity, as in a GRANT."""
_Right = tuple[str, str, str]
"""Role, privilege, and column; the column is empty for the whole object."""


def revoked_since(
    live: Connection, summary: DumpSummary, facts: Facts, staying: Collection[str] = ()
) -> tuple[Revival, ...]:
    """The grants of the restore point on objects of the live database that do not exist there any more. Those to
    superusers and to owners change nothing and are left out, and so are the schemas that are ``staying``. Empty for a
    restore point without grants, which gets the live ones. Raises psycopg.Error."""
    if not summary.has_acls:
        return ()
    with live.transaction():
        live.execute("SET LOCAL search_path = pg_catalog")
        rows = live.execute(_GRANTS.encode()).fetchall()
        roles = {str(name) for (name,) in live.execute(_ROLES)} | {PUBLIC}
    now: dict[_Object, set[_Right]] = defaultdict(set)
    every: dict[_Object, list[str]] = {}
    owners: dict[_Object, str] = {}
    routines: dict[_Object, str] = {}
    for schema, kind, identity, column, routine, privileges, held, owner in rows:
        if schema in staying:
            continue
        key = (kind, identity)
        now[key] |= {(role, privilege, column) for role, privilege in held}
        owners[key] = owner
        if not column:
            every[key] = privileges or []
            routines[key] = routine
    recorded = {each.identity for each in facts.objects if each.kind in ("function", "procedure")}
    then = _then(
        (item.command for item in summary.script.items if isinstance(item, ScriptStep)),
        every,
        {key for key, routine in routines.items() if routine in recorded},
    )
    return tuple(_revivals(then, now, owners, roles))


def _then(
    commands: Iterable[Command], every: Mapping[_Object, list[str]], routines: Iterable[_Object]
) -> dict[_Object, set[_Right]]:
    """The grants of a dump on objects of the live database: PUBLIC may call every routine until that is revoked."""
    found: dict[_Object, set[_Right]] = defaultdict(set)
    for key in routines:
        found[key].add((PUBLIC, "EXECUTE", ""))
    for command in commands:
        if command.kind is not Kind.GRANT:
            continue
        match = _STATEMENT.fullmatch(command.statement.text.decode("utf-8", "replace").strip())
        if match is None or (match["kind"], match["name"]) not in every:
            continue
        key = (match["kind"], match["name"])
        rights = set(_rights(match["privileges"], match["role"], every[key]))
        if match["verb"] == "GRANT":
            found[key] |= rights
        else:
            found[key] -= rights
    return found


def _rights(privileges: str, role: str, every: Iterable[str]) -> Iterator[_Right]:
    for each in _PRIVILEGE.finditer(privileges):
        if each[2]:
            names = (quoted.replace('""', '"') or plain for quoted, plain in _COLUMN.findall(each[2]))
            yield from ((role, each[1], column) for column in names)
        else:
            yield from ((role, name, "") for name in (every if each[1] == "ALL" else [each[1]]))


def _revivals(
    then: Mapping[_Object, set[_Right]],
    now: Mapping[_Object, set[_Right]],
    owners: Mapping[_Object, str],
    roles: set[str],
) -> Iterator[Revival]:
    for (kind, identity), rights in sorted(then.items()):
        by_role: dict[str, list[str]] = defaultdict(list)
        held = now.get((kind, identity), set())
        for role, privilege, column in sorted(rights - held):
            if role in roles and role != owners[kind, identity] and (role, privilege, "") not in held:
                by_role[role].append(f"{privilege} ({column})" if column else privilege)
        for role, names in by_role.items():
            yield Revival(kind="grant", what=f"{', '.join(names)} on {kind.lower()} {identity} to {role}")
