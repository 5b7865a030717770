"""CHECK constraints of tables and of domains, evaluated for every row."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from lastgood.command.validate.catalogue import Catalogue
from lastgood.command.validate.rows import Condition
from lastgood.command.validate.rule import Rule, RuleKind

# Partitions are checked with their parents, except for their own constraints.
_CHECKS = """
SELECT k.conrelid::bigint, k.conname, pg_catalog.pg_get_expr(k.conbin, k.conrelid), k.convalidated,
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey))
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
WHERE k.contype = 'c' AND NOT (c.relispartition AND k.coninhcount > 0) AND k.conrelid = ANY (%s::oid[])
ORDER BY k.conrelid, k.conname
"""
# A domain over a domain has the constraints of both.
_DOMAINS = """
WITH RECURSIVE above (type, domain) AS (
  SELECT oid, oid FROM pg_catalog.pg_type WHERE typtype = 'd'
  UNION ALL
  SELECT a.type, t.typbasetype FROM above a JOIN pg_catalog.pg_type t ON t.oid = a.domain
  JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype AND b.typtype = 'd')
SELECT a.type::bigint, n.nspname, d.typname, k.conname, pg_catalog.pg_get_expr(k.conbin, 0), k.convalidated,
       (SELECT pg_catalog.format_type(b.typbasetype, b.typtypmod)
        FROM above y JOIN pg_catalog.pg_type b ON b.oid = y.domain
        JOIN pg_catalog.pg_type under ON under.oid = b.typbasetype AND under.typtype <> 'd' WHERE y.type = a.type)
FROM above a JOIN pg_catalog.pg_type d ON d.oid = a.domain JOIN pg_catalog.pg_namespace n ON n.oid = d.typnamespace
JOIN pg_catalog.pg_constraint k ON k.contypid = d.oid
WHERE k.contype = 'c'
ORDER BY 1, 2, 3, 4
"""
_NOT_VALID = "the constraint is NOT VALID: the server has not checked all rows"


def _of_tables(catalogue: Catalogue) -> Iterator[Condition]:
    """Yield one condition for each CHECK of a table."""
    for oid, name, expression, validated, columns in catalogue.connection.execute(_CHECKS, [catalogue.open]).fetchall():
        table = catalogue.by_oid.get(oid)
        if table is None or expression is None:
            continue
        yield Condition(
            Rule(f"check:{table}.{name}", "check", "blocker" if validated else "warning"),
            table,
            # The expression from the catalogue. NULL satisfies a CHECK.
            sql.SQL("({}) IS FALSE").format(sql.SQL(expression)),
            (f"violates check constraint {name}: {expression}", f"violate check constraint {name}: {expression}"),
            tuple(columns or ()),
            note="" if validated else _NOT_VALID,
        )


def _of_domains(catalogue: Catalogue) -> Iterator[Condition]:
    """Yield one condition for each CHECK of a domain and each column of that domain."""
    constraints: dict[int, list[tuple[str, str, str, str, bool, str]]] = {}
    for type_oid, *rest in catalogue.connection.execute(_DOMAINS).fetchall():
        schema, domain, name, expression, validated, underlying = rest
        constraints.setdefault(type_oid, []).append((schema, domain, name, expression, validated, underlying))
    for table in catalogue.tables:
        for column in table.columns:
            for schema, domain, name, expression, validated, underlying in constraints.get(column.type, ()):
                # The constraint refers to VALUE. A subquery provides that name with the underlying base type, so that
                # no other constraint interferes.
                violates = sql.SQL("(SELECT ({}) IS FALSE FROM (SELECT {}::{} AS value) domain)").format(
                    sql.SQL(expression), sql.Identifier(column.name), sql.SQL(underlying)
                )
                of_domain = f"a value in {column.name} that violates domain {schema}.{domain}: {expression}"
                yield Condition(
                    Rule(f"domain:{table}.{column.name}.{name}", "domain", "blocker" if validated else "warning"),
                    table,
                    violates,
                    (f"has {of_domain}", f"have {of_domain}"),
                    (column.name,),
                    note="" if validated else _NOT_VALID,
                )


CHECKS = RuleKind(
    "check",
    "checks",
    "Each row satisfies the CHECK constraints of its table, evaluated again. Violations of constraints that are NOT "
    "VALID or NOT ENFORCED only warn.",
    ("quick", "full"),
    "blocker",
    conditions=_of_tables,
)
DOMAINS = RuleKind(
    "domain",
    "domains",
    "Each value in a column of a domain satisfies the domain's CHECK constraints, evaluated again.",
    ("quick", "full"),
    "blocker",
    conditions=_of_domains,
)
