"""The requirements of a restore point on its server, checked together: roles, extensions, tablespaces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import LiteralString

from lastgood.dump.statements import Kind
from lastgood.dump.summary import DumpSummary
from lastgood.errors import NOT_REACHED, Refused
from lastgood.facts import Facts
from lastgood.load.repairs import Rules
from lastgood.load.repairs.repair import OWNERS, PRIVILEGES
from lastgood.postgres.server import Connection
from lastgood.text.quoting import identifier

_ROLES: LiteralString = "SELECT rolname FROM pg_catalog.pg_roles"
_EXTENSIONS: LiteralString = "SELECT name FROM pg_catalog.pg_available_extensions"
_TABLESPACES: LiteralString = "SELECT spcname FROM pg_catalog.pg_tablespace"
# Debian and PostgreSQL's own repository name these packages differently from the extension; see ``missing_extensions``.
_PACKAGES = {
    "h3": "h3",
    "hypopg": "hypopg",
    "ip4r": "ip4r",
    "orafce": "orafce",
    "pg_cron": "cron",
    "pg_hint_plan": "pg-hint-plan",
    "pg_partman": "partman",
    "pg_repack": "repack",
    "pg_similarity": "similarity",
    "pgaudit": "pgaudit",
    "pglogical": "pglogical",
    "pgmp": "pgmp",
    "pgrouting": "pgrouting",
    "pgsphere": "pgsphere",
    "pgtap": "pgtap",
    "plproxy": "plproxy",
    "plr": "plr",
    "plv8": "plv8",
    "postgis": "postgis-3",
    "postgis_raster": "postgis-3",
    "postgis_sfcgal": "postgis-3",
    "postgis_tiger_geocoder": "postgis-3",
    "postgis_topology": "postgis-3",
    "prefix": "prefix",
    "rum": "rum",
    "semver": "semver",
    "timescaledb": "timescaledb",
    "vector": "pgvector",
}


@dataclass(frozen=True, slots=True)
class MissingObjects:
    """Objects that the server lacks: ``names`` of ``kind`` ``roles``, ``extensions``, ``languages`` or ``tablespaces``.
    ``text`` is the message, ``hint`` the remedy."""

    kind: str
    names: tuple[str, ...]
    text: str
    hint: str


def missing_roles(connection: Connection, summary: DumpSummary, rules: Rules) -> MissingObjects | None:
    """Missing roles that a command of the dump needs. With ``--strict`` a REVOKE from a missing role counts, too."""
    left_out = (OWNERS if rules.no_owner else frozenset()) | (PRIVILEGES if rules.no_acl else frozenset())
    named = {role: kinds - left_out for role, kinds in summary.named_roles.items()}
    wanted = {role for role, kinds in named.items() if kinds}
    if rules.strict and not rules.no_acl:
        wanted |= summary.revoked_from
    missing = _missing(connection, wanted, _ROLES)
    if not missing:
        return None
    create = "; ".join(f"CREATE ROLE {identifier(name)} NOLOGIN" for name in missing)
    hint = f"Create the roles: {create}"
    kinds = {kind for name in missing for kind in named.get(name, {Kind.GRANT})}
    if rules.copy and kinds <= OWNERS | PRIVILEGES:
        options = [option for option, what in (("--no-owner", OWNERS), ("--no-acl", PRIVILEGES)) if kinds & what]
        without = "owners and privileges" if len(options) > 1 else "owners" if kinds & OWNERS else "privileges"
        hint += f"; or restore without {without}: {' '.join(options)}"
    return MissingObjects(
        "roles", missing, "the restore point needs roles that this server lacks: " + ", ".join(missing), hint
    )


def missing_extensions(connection: Connection, facts: Facts) -> MissingObjects | None:
    """Extensions whose files are not on the server's machine."""
    wanted = (extension.name for extension in facts.extensions if not extension.as_language)
    missing = _missing(connection, wanted, _EXTENSIONS)
    if not missing:
        return None
    major = connection.info.server_version // 10000
    packages = sorted({f"postgresql-{major}-{_PACKAGES[name]}" for name in missing if name in _PACKAGES})
    on_debian = f" (on Debian: {', '.join(packages)})" if packages else ""
    return MissingObjects(
        "extensions",
        missing,
        "the restore point needs extensions that are not installed on this server: " + ", ".join(missing),
        f"Install the packages of the extensions on the server's machine{on_debian}, then run the command again.",
    )


def missing_languages(connection: Connection, facts: Facts) -> MissingObjects | None:
    """Languages that a dump names without their handlers, and that no extension of the server creates."""
    wanted = (extension.name for extension in facts.extensions if extension.as_language)
    missing = _missing(connection, wanted, _EXTENSIONS)
    if not missing:
        return None
    return MissingObjects(
        "languages",
        missing,
        "the dump names languages without their handlers, and this server has no extensions of these names: "
        + ", ".join(missing),
        "Restore from a backup that lastgood made: it has the handlers. Or remove CREATE LANGUAGE, and the functions "
        "in these languages, from a copy of the dump.",
    )


def missing_tablespaces(connection: Connection, summary: DumpSummary) -> MissingObjects | None:
    """Missing tablespaces, which belong to the server."""
    missing = _missing(connection, summary.tablespaces, _TABLESPACES)
    if not missing:
        return None
    return MissingObjects(
        "tablespaces",
        missing,
        "the restore point needs tablespaces that this server lacks: " + ", ".join(missing),
        "Create the tablespaces, then run the command again.",
    )


def require(connection: Connection, facts: Facts, summary: DumpSummary, rules: Rules, name: str) -> None:
    """Raise Refused with all requirements of the restore point ``name`` that the server lacks."""
    missing = list(_all_missing(connection, facts, summary, rules))
    if missing:
        raise Refused(
            f'cannot restore "{name}": ' + "; ".join(lack.text for lack in missing),
            hint=" ".join(lack.hint if lack.hint.endswith(".") else f"{lack.hint}." for lack in missing),
            state=NOT_REACHED,
        )


def _all_missing(connection: Connection, facts: Facts, summary: DumpSummary, rules: Rules) -> Iterator[MissingObjects]:
    for lack in (
        missing_roles(connection, summary, rules),
        missing_extensions(connection, facts),
        missing_languages(connection, facts),
        missing_tablespaces(connection, summary),
    ):
        if lack is not None:
            yield lack


def _missing(connection: Connection, wanted: Iterable[str], query: LiteralString) -> tuple[str, ...]:
    """The wanted names that the server does not have."""
    names = set(wanted)
    return tuple(sorted(names - {name for (name,) in connection.execute(query)})) if names else ()
