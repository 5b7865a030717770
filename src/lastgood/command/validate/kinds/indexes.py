"""Indexes: invalid ones by the catalogue, and the contents of the others with amcheck."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import psycopg
from psycopg import sql

from lastgood.command.validate.catalogue import Catalogue
from lastgood.command.validate.reader import RuleReader
from lastgood.command.validate.rule import Mode, Rule, RuleFinding, RuleKind, RuleTask, finished_task
from lastgood.postgres.roles.table_code import not_to_query

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

# amcheck evaluates them as the table's owner, who may be a superuser.
_CODE = RuleFinding(
    message="not compared: definitions of {} call functions, which would run with the rights of its owner",
    skipped="unavailable",
)


def _invalid(catalogue: Catalogue, mode: Mode) -> Iterator[RuleTask]:
    broken = list(_broken(catalogue))
    yield from broken or [finished_task(Rule("index", "index"), RuleFinding())]


def _broken(catalogue: Catalogue) -> Iterator[RuleTask]:
    for schema, name, table, valid, ready, partitioned, constraint in catalogue.connection.execute(_INVALID).fetchall():
        relation = catalogue.by_oid.get(table)
        if relation is None:
            continue
        qualified = sql.Identifier(schema, name)
        if partitioned:
            message = f"index {schema}.{name} of {relation} is incomplete: not all partitions have an index"
            hint = "Attach the missing ones with ALTER INDEX … ATTACH PARTITION."
        else:
            state = "not ready: new rows are not added to it" if not ready else "invalid: queries do not use it"
            message = (
                f"index {schema}.{name} of {relation} is {state}"
                if not valid or not ready
                else f"index {schema}.{name} of {relation} is being dropped"
            )
            command = sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(qualified).as_string(catalogue.connection)
            hint = f"Rebuild it: {command}"
        rule = Rule(f"index:{schema}.{name}", "index", "blocker" if constraint else "warning")
        yield finished_task(rule, RuleFinding(1, message, hint))


def _contents(catalogue: Catalogue, mode: Mode) -> Iterator[RuleTask]:
    installed = catalogue.connection.execute(_EXTENSION).fetchone()
    if installed is None:
        missing = RuleFinding(
            message="the extension amcheck is not installed in this database, so the contents of indexes were not "
            "compared with their tables",
            hint="As a superuser, run: CREATE EXTENSION amcheck",
            skipped="unavailable",
        )
        yield finished_task(Rule("index_content", "index_content"), missing)
        return
    code = not_to_query(catalogue.connection)
    for oid, schema, name, table, pages in catalogue.connection.execute(_BTREES).fetchall():
        relation = catalogue.by_oid.get(table)
        if relation is None:
            continue
        rule = Rule(f"index_content:{schema}.{name}", "index_content")
        if (relation.schema_name, relation.name) in code:
            yield finished_task(rule, replace(_CODE, message=_CODE.message.format(relation)))
        else:
            yield RuleTask(
                (rule,),
                partial(_compare, installed[0], oid, f"{schema}.{name}"),
                pages=relation.pages,
                extra_pages=pages,
                relations=(table,),
                as_operator=True,
            )


def _compare(extension: str, oid: int, name: str, reader: RuleReader, sample: float | None) -> Sequence[RuleFinding]:
    check = sql.SQL("SELECT {}.bt_index_check({}::oid::regclass, true)").format(sql.Identifier(extension), oid)
    try:
        reader.rows(check)
    except psycopg.Error as error:
        # Only these errors mean a damaged index; after any other error, the index was not checked.
        if error.sqlstate not in ("XX001", "XX002"):
            raise
        return [
            RuleFinding(
                1,
                f"index {name} is corrupt: {error.diag.message_primary}",
                f"Rebuild it with REINDEX INDEX CONCURRENTLY {name}, and find the cause (disk, collation, a copied "
                "data directory)",
            )
        ]
    return [RuleFinding()]


INDEXES = RuleKind(
    "index",
    "indexes",
    "No index is invalid or not ready (a failed CREATE INDEX CONCURRENTLY, a partition without an index). Only indexes "
    "of constraints are blockers.",
    ("quick", "full"),
    "blocker or warning",
    _invalid,
)
CONTENTS = RuleKind(
    "index_content",
    "contents of indexes",
    "Each btree index is in order and contains every row of its table, by bt_index_check of amcheck, if that extension "
    "is installed. lastgood does not install it.",
    ("full",),
    "blocker",
    _contents,
)
