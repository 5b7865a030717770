"""Tables whose row-level security hides rows from this session's role, and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from lastgood.postgres.server import Connection
from lastgood.text.units import listed

SHOWN = 5
_HIDING = """
SELECT n.nspname::text, c.relname::text, pg_catalog.pg_has_role(c.relowner, 'USAGE') AND c.relforcerowsecurity
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity AND pg_catalog.row_security_active(c.oid)
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class HidingTable:
    """``forced``: the role may act as the table's owner, which only FORCE ROW LEVEL SECURITY makes subject to it."""

    schema: str
    name: str
    forced: bool

    @property
    def quoted(self) -> str:
        """The quoted name."""
        return sql.Identifier(self.schema, self.name).as_string(None)


def hiding_tables(connection: Connection) -> list[HidingTable]:
    """The tables with hidden rows, without those of extensions."""
    return [HidingTable(*row) for row in connection.execute(_HIDING)]


def first_names(tables: Sequence[HidingTable]) -> str:
    """The first names, and the number of the others."""
    return listed((each.quoted for each in tables), SHOWN)


def remedy(tables: Sequence[HidingTable], what: str) -> str:
    """The hint: ``what`` to do as another role, or NO FORCE ROW LEVEL SECURITY where that is sufficient."""
    hint = f"{what} as a superuser or as a role with BYPASSRLS"
    if all(each.forced for each in tables):
        commands = " ".join(f"ALTER TABLE {each.quoted} NO FORCE ROW LEVEL SECURITY;" for each in tables[:SHOWN])
        return f"{hint}, or run: {commands}" + (" …" if len(tables) > SHOWN else "")
    return f"{hint}."
