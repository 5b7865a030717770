"""Unfinished views of an interrupted restore, unpopulated materialized views, and changed collations."""

from __future__ import annotations

from collections.abc import Iterator

from lastgood.command.validate.catalogue import Catalogue
from lastgood.command.validate.rule import Mode, Rule, RuleFinding, RuleKind, RuleTask, Severity, finished_task
from lastgood.postgres import integrity

_COLLATIONS = """
SELECT 'the database', datcollversion, pg_catalog.pg_database_collation_actual_version(oid)
FROM pg_catalog.pg_database WHERE datname = current_database()
UNION ALL
SELECT format('%I.%I', n.nspname, c.collname), c.collversion, pg_catalog.pg_collation_actual_version(c.oid)
FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
WHERE n.nspname <> 'pg_catalog' OR c.oid IN (SELECT attcollation FROM pg_catalog.pg_attribute WHERE attrelid >= 16384)
"""
_VIEWS: dict[str, tuple[str, Severity, str, str]] = {
    "unfinished view": (
        "view",
        "blocker",
        "view {} is a placeholder of pg_dump: {}",
        "A restore was interrupted. Recreate the view from a restore point.",
    ),
    "unpopulated materialized view": (
        "view",
        "warning",
        "materialized view {} is not populated: {}",
        "Populate it: REFRESH MATERIALIZED VIEW {}",
    ),
}


def _views(catalogue: Catalogue, mode: Mode) -> Iterator[RuleTask]:
    yield from list(_unfinished(catalogue)) or [finished_task(Rule("view", "view"), RuleFinding())]


def _unfinished(catalogue: Catalogue) -> Iterator[RuleTask]:
    for finding in integrity.findings(catalogue.connection):
        if finding.kind in _VIEWS:
            kind, severity, message, hint = _VIEWS[finding.kind]
            result = RuleFinding(1, message.format(finding.what, finding.detail), hint.format(finding.what))
            yield finished_task(Rule(f"{kind}:{finding.what}", kind, severity), result)


def _collations(catalogue: Catalogue, mode: Mode) -> Iterator[RuleTask]:
    yield from list(_changed(catalogue)) or [finished_task(Rule("collation", "collation"), RuleFinding())]


def _changed(catalogue: Catalogue) -> Iterator[RuleTask]:
    for name, recorded, actual in catalogue.connection.execute(_COLLATIONS).fetchall():
        if recorded is not None and actual is not None and recorded != actual:
            result = RuleFinding(
                1,
                f"the collation of {name} was version {recorded} when indexes were built, but is {actual} now: text "
                "indexes may miss rows",
                "Run REINDEX DATABASE CONCURRENTLY, then ALTER DATABASE … REFRESH COLLATION VERSION (or ALTER "
                "COLLATION …).",
            )
            yield finished_task(Rule(f"collation:{name}", "collation", "warning"), result)


VIEWS = RuleKind(
    "view",
    "views",
    "No view is a placeholder of pg_dump for the real one (blocker), and no materialized view is unpopulated "
    "(warning).",
    ("quick", "full"),
    "blocker or warning",
    _views,
)
COLLATIONS = RuleKind(
    "collation",
    "collations",
    "Collations have the versions that indexes were built with.",
    ("quick", "full"),
    "warning",
    _collations,
)
