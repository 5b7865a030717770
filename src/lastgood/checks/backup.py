"""The conditions of the emergency backup: a program, disk space, and a readable live database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from psycopg import sql

from lastgood.checklist import Finding, Passed
from lastgood.checks.subject import Subject
from lastgood.errors import Refused
from lastgood.postgres import binaries
from lastgood.postgres.access import row_security
from lastgood.text import units

SHOWN = 5

# The relations that pg_dump would read. An index or a TOAST table has no privileges of its own.
_UNREADABLE = """
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname), count(*) OVER ()
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
  AND (NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
       OR CASE c.relkind WHEN 'S' THEN NOT pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
          ELSE NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') END)
ORDER BY 1 LIMIT %s
"""
_CHECKSUMS = """
SELECT checksum_failures, checksum_last_failure FROM pg_catalog.pg_stat_database WHERE datid = %s
"""


def program(s: Subject) -> Iterator[Finding | Passed]:
    """pg_dump of the server's version or a newer one, run once."""
    try:
        pg_dump = binaries.find("pg_dump", at_least=s.maintenance.info.server_version // 10000)
    except Refused as error:
        yield Finding(
            level="refusal",
            code="no_pg_dump",
            text=f"cannot make an emergency backup: {error}",
            hint=error.hint,
            known="tried",
        )
    else:
        yield Passed(text=f"pg_dump {pg_dump.version} will make it", known="tried")


def room(s: Subject) -> Iterator[Finding | Passed]:
    """A dump is rarely larger than its database."""
    store, need = s.request.store, s.database.size_bytes or 0
    place = next(each for each in (store, *store.absolute().parents) if each.exists())
    free = shutil.disk_usage(place).free
    space = f'the store "{store}" has {units.size(free)} free'
    if free < need:
        yield Finding(
            level="refusal",
            code="no_room_for_emergency_backup",
            text=f"{space}; the emergency backup may need {units.size(need)}",
            hint="Free disk space there, or choose another store with --store.",
            known="measured",
        )
    else:
        yield Passed(text=f"{space}; it may need {units.size(need)}", known="measured")


def checksums(s: Subject) -> Iterator[Finding]:
    """Checksum failures that the server counted since its statistics began."""
    failures, last = s.maintenance.execute(_CHECKSUMS, [s.database.oid]).fetchone() or (None, None)
    if failures:
        pages = "a damaged page" if failures == 1 else f"{failures} damaged pages"
        yield Finding(
            level="caution",
            code="checksum_failures",
            text=f"the server found {pages} in the live database, last on {last:%Y-%m-%d %H:%M} {last.tzname()}: "
            "reading it may fail",
            hint="If the backup fails, run: lastgood rollback --override emergency_backup --reason TEXT. The replaced "
            "database itself is kept.",
            known="measured",
        )


def readable(s: Subject) -> Iterator[Finding | Passed]:
    """Whether this role may read every table; damaged pages are found only when they are read."""
    hidden = row_security.hiding_tables(s.live)
    if hidden:
        yield Finding(
            level="refusal",
            code="rows_hidden",
            text=f"row-level security hides rows from this role in {row_security.first_names(hidden)}",
            hint=row_security.remedy(hidden, "Connect"),
        )
    rows = s.live.execute(_UNREADABLE, [SHOWN]).fetchall()
    if not rows and not hidden:
        yield Passed(text=f'this role may read every table of "{s.database.name}"')
    if not rows:
        return
    role = sql.Identifier(s.live.info.user).as_string(s.live)
    names = ", ".join(row[0] for row in rows)
    more = f" and {rows[0][1] - SHOWN} more" if rows[0][1] > SHOWN else ""
    yield Finding(
        level="refusal",
        code="cannot_read",
        text=f'this role cannot read all of "{s.database.name}": {names}{more}',
        hint=f"Connect as a superuser, or have a superuser run: GRANT pg_read_all_data TO {role}",
    )
