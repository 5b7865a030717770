"""Indexes: those that the server knows to be unusable, and with amcheck what is in the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import psycopg
from psycopg import sql

from lastgood.command.validate.catalogue import Catalogue
from lastgood.command.validate.look import Look
from lastgood.command.validate.rule import Found, Kind, Mode, Rule, Task, already

_INVALID = """
SELECT n.nspname, ic.relname, i.indrelid::bigint, i.indisvalid, i.indisready, ic.relkind = 'I',
       EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = ic.relnamespace
WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) AND n.nspname !~ '^pg_'
ORDER BY n.nspname, ic.relname
"""
_EXTENSION = """
SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'amcheck'
"""
_BTREES = """
SELECT ic.oid::bigint, n.nspname, ic.relname, i.indrelid::bigint, greatest(ic.relpages, 0)::int8
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid AND ic.relkind = 'i'
JOIN pg_catalog.pg_am m ON m.oid = ic.relam AND m.amname = 'btree'
JOIN pg_catalog.pg_namespace n ON n.oid = ic.relnamespace
WHERE i.indisvalid AND i.indisready AND i.indislive
ORDER BY n.nspname, ic.relname
"""


def _invalid(catalogue: Catalogue, mode: Mode) -> Iterator[Task]:
    broken = list(_broken(catalogue))
    yield from broken or [already(Rule("index", "index"), Found())]


def _broken(catalogue: Catalogue) -> Iterator[Task]:
    for schema, name, table, valid, ready, partitioned, constraint in catalogue.connection.execute(_INVALID).fetchall():
        relation = catalogue.by_oid.get(table)
        if relation is None:
            continue
        qualified = sql.Identifier(schema, name)
        if partitioned:
            said = f"the index {schema}.{name} of {relation} is not complete: not all partitions have theirs"
            hint = "Attach the missing ones with ALTER INDEX … ATTACH PARTITION."
        else:
            state = "not ready: rows that are written do not get into it" if not ready else "invalid: no query uses it"
            said = (
                f"the index {schema}.{name} of {relation} is {state}"
                if not valid or not ready
                else (f"the index {schema}.{name} of {relation} is being dropped")
            )
            command = sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(qualified).as_string(catalogue.connection)
            hint = f"Build it again: {command}"
        rule = Rule(f"index:{schema}.{name}", "index", "blocker" if constraint else "warning")
        yield already(rule, Found(1, said, hint))


def _contents(catalogue: Catalogue, mode: Mode) -> Iterator[Task]:
    installed = catalogue.connection.execute(_EXTENSION).fetchone()
    if installed is None:
        missing = Found(
            said="the extension amcheck is not in this database, so what is in indexes was not compared with "
            "their tables",
            hint="A superuser can add it: CREATE EXTENSION amcheck",
            skipped="unavailable",
        )
        yield already(Rule("index_content", "index_content"), missing)
        return
    for oid, schema, name, table, pages in catalogue.connection.execute(_BTREES).fetchall():
        relation = catalogue.by_oid.get(table)
        if relation is not None:
            yield Task(
                (Rule(f"index_content:{schema}.{name}", "index_content"),),
                partial(_compare, installed[0], oid, f"{schema}.{name}"),
                pages=relation.pages,
                beside=pages,
                relations=(table,),
            )


def _compare(extension: str, oid: int, name: str, look: Look, sample: float | None) -> Sequence[Found]:
    check = sql.SQL("SELECT {}.bt_index_check({}::oid::regclass, true)").format(sql.Identifier(extension), oid)
    try:
        look.rows(check)
    except psycopg.Error as error:
        # Only these say that the index is wrong; others that it could not be looked at.
        if error.sqlstate not in ("XX001", "XX002"):
            raise
        return [
            Found(
                1,
                f"the index {name} is damaged: {error.diag.message_primary}",
                f"Build it again: REINDEX INDEX CONCURRENTLY {name}; and find out what damaged it (disk, collation, a "
                "copied data folder)",
            )
        ]
    return [Found()]


INDEXES = Kind(
    "index",
    "indexes",
    "No index is invalid or not ready (a CREATE INDEX CONCURRENTLY that failed, a partition without its own). Only "
    "those of a constraint stop.",
    ("quick", "full"),
    "blocker or warning",
    _invalid,
)
CONTENTS = Kind(
    "index_content",
    "contents of indexes",
    "Each btree index is in order and has every row of its table: amcheck's bt_index_check, where the extension is "
    "installed. It is never installed for this.",
    ("full",),
    "blocker",
    _contents,
)
