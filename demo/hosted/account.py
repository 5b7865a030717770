"""The content of a hosted project's database: the live objects, apart from those that lastgood keeps next to them."""

from __future__ import annotations

from dataclasses import dataclass

from demo import evidence
from demo.evidence import Evidence
from lastgood.postgres.server import Connection

_KEPT = "lastgood_"


@dataclass(frozen=True, slots=True)
class Account:
    """``live``: everything outside the schemas of lastgood. ``kept``: relation → content, by the names that the
    relations had when they were live. ``ties``: objects outside the kept schemas that depend on one inside."""

    live: Evidence
    kept: dict[str, str]
    ties: tuple[str, ...]

    def without_users(self) -> Evidence:
        """The live objects without the rows of the platform's users, who go nowhere."""
        content = {name: rows for name, rows in self.live.content.items() if name != "auth.users"}
        return Evidence(content, self.live.structure, self.live.settings)


def take(connection: Connection) -> Account:
    """Read everything; ``connection`` must be a superuser's."""
    whole = evidence.take(connection)
    live = {name: rows for name, rows in whole.content.items() if not name.startswith(_KEPT)}
    kept = {name for name in whole.content if name.startswith(_KEPT)}
    # Of a live object that depends on a kept one, the line before the rollback is missing: the comparison reports it.
    structure = frozenset(line for line in whole.structure if _KEPT not in line)
    return Account(
        Evidence(live, structure, whole.settings),
        {name.split("_", 3)[3]: whole.content[name] for name in kept},
        _ties(connection),
    )


def _ties(connection: Connection) -> tuple[str, ...]:
    """Objects outside the kept schemas that depend on one inside: triggers, those of foreign keys too, policies, views;
    and the kept tables in a publication."""
    rows = connection.execute(
        """
        SELECT DISTINCT this.identity
        FROM pg_catalog.pg_depend d, pg_identify_object(classid, objid, 0) this,
             pg_identify_object(refclassid, refobjid, 0) other
        WHERE d.classid <> 0 AND d.refclassid <> 0 AND other.identity LIKE '%lastgood\\_%'
          AND (this.identity NOT LIKE ALL (ARRAY['%lastgood\\_%', 'pg_toast.%'])
               OR this.identity LIKE '% in publication %')
        ORDER BY 1
        """
    )
    return tuple(str(row[0]) for row in rows)
