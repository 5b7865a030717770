"""The subject of a guide (one database, its newest restore point, and their surroundings) and the results of
``lastgood guide`` as data. Reading the subject changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from lastgood import points
from lastgood.command.guide import FILE
from lastgood.command.guide.parts import part
from lastgood.command.recover.evidence import Platform
from lastgood.command.recover.platform import identifying_roles, recognise
from lastgood.config.tables import Guide, Hooks, Tables
from lastgood.context import BACKGROUND, Context
from lastgood.errors import NOT_REACHED, Refused
from lastgood.facts import Facts
from lastgood.in_place.capabilities import by_name, probe
from lastgood.in_place.definitions import against_facts
from lastgood.journal.past_runs import PastRun, past_runs
from lastgood.models import Document, Frozen
from lastgood.points import RestorePoint
from lastgood.postgres import database
from lastgood.postgres.errors import failed
from lastgood.postgres.server import Connection, Target, only_row
from lastgood.postgres.state import DatabaseState

# With this many tables, one transaction may run out of locks during a restore (max_locks_per_transaction).
MANY_TABLES = 1000
_TABLES = """
SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 1, 2
"""
_ROLES = """
SELECT r.rolname::text, count(DISTINCT c.oid) FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND a.grantee <> c.relowner AND r.rolname !~ '^pg_'
GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class GuidePoint:
    """The restore point of a guide. ``sha256`` is None if it was not recorded, or for a folder. ``known``: its facts
    come from its manifest. ``carries``: it contains owners and grants. ``single``: it can be restored in one
    transaction."""

    path: Path
    made_at: datetime
    kind: str
    size: int
    sha256: str | None
    facts: Facts
    known: bool
    carries: bool
    single: bool


@dataclass(frozen=True, slots=True)
class GuideSubject:
    """The content of a guide. ``privileges``: the result of the guide's capture query. ``roles``: name and number of
    tables of roles with grants. ``tables``: schema and name, of the live database. ``past``: the last rollback or
    rehearsal recorded on this machine. ``schemas``: those that are rolled back in place, none by name; ``why``: the
    reason why the database cannot be renamed."""

    target: Target
    live: str
    maintenance: str
    server_version: str
    role: str
    superuser: bool
    size: int | None
    state: DatabaseState
    tables: tuple[tuple[str, str], ...]
    roles: tuple[tuple[str, int], ...]
    privileges: Mapping[str, Any]
    point: GuidePoint
    points: tuple[RestorePoint, ...]
    store: Path
    hooks: Hooks
    health: str | None
    folder: Path | None
    platform: Platform | None
    guide: Guide
    past: PastRun | None
    made_at: datetime
    file: str
    schemas: tuple[str, ...] = ()
    why: str = ""

    @property
    def major(self) -> int:
        """The server's major version."""
        return int(self.server_version.split(".")[0].split()[0])

    @property
    def review(self) -> datetime:
        """The time when the next review of the guide is due."""
        return datetime.fromtimestamp(self.made_at.timestamp() + self.guide.review_every, UTC)

    @property
    def tables_digest(self) -> str:
        """A digest of all table names."""
        return hashlib.sha256(json.dumps(self.tables).encode()).hexdigest()[:16]


def subject_of(
    target: Target,
    store: Path,
    *,
    point: str | None = None,
    tables: Tables | None = None,
    folder: Path | None = None,
    file: str = FILE,
    in_place: tuple[str, ...] | None = None,
    context: Context = BACKGROUND,
) -> GuideSubject:
    """Read the live database and its newest valid restore point, or the one that ``point`` names.

    A point with a manifest is not read, because the manifest has its facts; any other is read to its end. The
    journals are in the state folder of ``context``. ``in_place``: the schemas to exchange, none by name; None for what
    the role's rights allow. Raises BadPoint when there is none, Refused, Failed.
    """
    settings = tables or Tables()
    live = target.dbname
    chosen = _point(store, point, live, context)
    with database.connect_maintenance(target, live) as maintenance:
        described = database.describe(maintenance, live)
        state = DatabaseState.read(maintenance, live)
        roles = maintenance.execute(
            "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY (%s)", [identifying_roles()]
        )
        platform = recognise(settings.recover.platform, target.keywords, [row[0] for row in roles], None)
        maintenance_name = maintenance.info.dbname
    try:
        connected = target.at(live).connect(application_name="lastgood guide")
    except psycopg.OperationalError as error:
        raise failed(error, f'connect to "{live}"', context="connect", state=NOT_REACHED) from error
    with connected as connection:
        version, role, superuser, now = _row(connection)
        schemas, why = (in_place, "") if in_place is not None else _in_place(connection, chosen.facts)
        listed = tuple((schema, name) for schema, name in connection.execute(_TABLES))
        granted = tuple((name, count) for name, count in connection.execute(_ROLES))
        privileges = capture_privileges(connection)
    if schemas:
        chosen = replace(chosen, facts=_restricted(chosen.facts, schemas))
        listed = tuple(each for each in listed if each[0] in schemas)
    return GuideSubject(
        target=target,
        live=live,
        maintenance=maintenance_name,
        server_version=version,
        role=role,
        superuser=superuser,
        size=described.size_bytes,
        state=state,
        tables=listed,
        roles=granted,
        privileges=privileges,
        point=chosen,
        points=tuple(each for each in points.all_points(store) if not each.is_emergency),
        store=store.absolute(),
        hooks=settings.hooks,
        health=settings.health.url if settings.health is not None else None,
        folder=folder,
        platform=platform,
        guide=settings.guide,
        past=next(iter(past_runs(context.state, live)), None) if context.state is not None else None,
        made_at=now.astimezone(UTC),
        file=file,
        schemas=schemas,
        why=why,
    )


def _in_place(connection: Connection, facts: Facts) -> tuple[tuple[str, ...], str]:
    """Return the schemas that are rolled back in place, and why the database cannot be renamed; nothing where it can be
    renamed, or where neither is possible."""
    if by_name(connection):
        return (), ""
    capabilities = probe(connection)
    if not capabilities.in_place:
        return (), ""
    existing = {row[0] for row in connection.execute("SELECT nspname::text FROM pg_catalog.pg_namespace")}
    schemas = (against_facts.schemas_of(facts) - existing) | set(capabilities.schemas)
    why = next(each.text for each in capabilities.answers if each.name == "rename database")
    return tuple(sorted(schemas)), why.partition(": ")[2] or why


def _restricted(facts: Facts, schemas: Collection[str]) -> Facts:
    """Return the facts of only these schemas."""
    migration = facts.migration
    return facts.model_copy(
        update={
            "tables": tuple(each for each in facts.tables if each.schema_name in schemas),
            "sequences": tuple(each for each in facts.sequences if each.schema_name in schemas),
            "migration": migration if migration and migration.table.partition(".")[0] in schemas else None,
        }
    )


def capture_privileges(connection: Connection) -> Mapping[str, Any]:
    """Capture owners and grants of everything with the query of the guide."""
    row = only_row(connection, _capture().encode())
    captured: Mapping[str, Any] = row[0]
    return captured


@cache
def _capture() -> str:
    """Return the guide's temporary views and its query as one statement: a role may lack the TEMPORARY privilege."""
    views = re.findall(r"^CREATE TEMP VIEW (\w+) AS\n(.*?);$", part("things.sql"), re.MULTILINE | re.DOTALL)
    parts = ",\n".join(f"{name} AS (\n{query}\n)" for name, query in views)
    return f"WITH {parts}\n{part('capture.sql')}".replace("pg_temp.", "")


def _row(connection: Connection) -> tuple[str, str, bool, datetime]:
    row = only_row(
        connection,
        "SELECT current_setting('server_version'), current_user::text, rolsuper, now()"
        " FROM pg_catalog.pg_roles WHERE rolname = current_user",
    )
    return row[0], row[1], row[2], row[3]


def _point(store: Path, name: str | None, live: str, context: Context) -> GuidePoint:
    glance = points.choose_quickly(store, name=name, database=live, context=context)
    point, source = glance.point, glance.source
    if point.files or source.kind == "set":
        raise Refused(
            f'cannot write the guide: restore point "{point.path}" consists of several files',
            hint="Make a restore point in a single file with lastgood backup, or give another one with --point.",
        )
    facts, carries = glance.facts, True
    if facts is None or point.manifest is None:
        verified = points.read_whole(point, database=live, skim=True, stage="plan", context=context)
        facts, summary = verified.facts, verified.summary
        carries = summary.has_owners and summary.has_acls
        if summary.cluster or summary.create:
            raise Refused(
                f'cannot write the guide: restore point "{point.path}" creates databases itself, which is not safe by '
                "hand",
                hint="Make another restore point with lastgood backup, or give another one with --point.",
            )
    many = len(facts.tables) + facts.large_objects.count >= MANY_TABLES or facts.large_objects.count > 0
    return GuidePoint(
        path=point.path.absolute(),
        made_at=point.made_at.astimezone(UTC),
        kind=source.kind + (f", {source.compression}" if source.compression else ""),
        size=point.size,
        sha256=point.manifest.sha256 if point.manifest is not None and source.kind != "directory" else None,
        facts=facts,
        known=point.manifest is not None,
        carries=carries,
        single=not many,
    )


class GuideSection(Frozen):
    """A heading of the guide, with the blocks of commands below it."""

    title: str
    blocks: tuple[str, ...]


class GuideReport(Document):
    """A guide that was written. ``html`` and ``readme`` are null if not requested."""

    file: str
    html: str | None
    readme: str | None
    database: str
    point: str
    point_made_at: datetime
    made_at: datetime
    review: datetime
    sections: tuple[GuideSection, ...]


class GuideCheck(Document):
    """Whether a guide is up to date, and the reasons if it is not."""

    file: str
    current: bool
    reasons: tuple[str, ...]
