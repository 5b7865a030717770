"""Privileges on one object as data, and the statements that turn one set of them into another.

PostgreSQL keeps an ACL of (grantor, grantee, privilege, grant option); an absent ACL means the default of the kind,
which may include PUBLIC. Here an ACL always includes the defaults, so that equal sets mean equal privileges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import sql

from lastgood.postgres.server import Connection

PUBLIC = ""  # no role can have an empty name

_PRIVILEGES: tuple[LiteralString, ...] = (
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "TRUNCATE",
    "REFERENCES",
    "TRIGGER",
    "MAINTAIN",
    "EXECUTE",
    "USAGE",
    "CREATE",
    "CONNECT",
    "TEMPORARY",
)
_WORDS = {word: sql.SQL(word) for word in _PRIVILEGES}


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One privilege that ``grantor`` granted to ``grantee`` (``PUBLIC`` is the empty string)."""

    grantor: str
    grantee: str
    privilege: str
    grantable: bool


Acl = frozenset[Grant]


@dataclass(frozen=True, slots=True)
class Operator:
    """The current role. ``inherits``: roles whose privileges it has; ``settable``: roles that it may SET ROLE to."""

    name: str
    superuser: bool
    inherits: frozenset[str]
    settable: frozenset[str]

    @classmethod
    def read(cls, connection: Connection) -> Operator:
        """Read the connection's current user and its memberships."""
        # Since 16, membership, INHERIT and SET ROLE are separate; before 16, every member may SET ROLE.
        become = sql.Literal("SET" if connection.info.server_version >= 160000 else "MEMBER")
        rows = connection.execute(
            sql.SQL("""
            SELECT rolname, pg_has_role(oid, 'USAGE'), pg_has_role(oid, {}), rolname = current_user, rolsuper
            FROM pg_roles""").format(become)
        ).fetchall()
        name, superuser = next((row[0], row[4]) for row in rows if row[3])
        return cls(name, superuser, frozenset(r[0] for r in rows if r[1]), frozenset(r[0] for r in rows if r[2]))

    def run_as(self, role: str, statement: sql.Composed, *, owner: bool) -> sql.Composed:
        """The statement, wrapped in SET ROLE where that is needed to make ``role`` the grantor.

        For an object's ``owner`` it is not needed if the operator has that role's privileges. The wrapped form is three
        statements in one string: they succeed or fail together, in a transaction or without.
        """
        if role == self.name or (owner and (self.superuser or role in self.inherits)):
            return statement
        return sql.SQL("SET ROLE {}; {}; RESET ROLE").format(sql.Identifier(role), statement)


@dataclass(frozen=True, slots=True)
class GrantTarget:
    """The object of privileges, as GRANT names it: ``TABLE "public"."t"``; one ``column`` of it, or, with ``before``,
    the defaults of future objects (``ALTER DEFAULT PRIVILEGES FOR ROLE …`` and ``TABLES``)."""

    on: sql.Composable
    before: sql.Composable | None = None
    column: str | None = None


def acl_of(rows: Iterable[Any]) -> Acl:
    """An ACL from rows of (grantor, grantee, privilege, grantable), grantee None or empty for PUBLIC."""
    return frozenset(
        Grant(grantor, grantee or PUBLIC, privilege, grantable) for grantor, grantee, privilege, grantable in rows
    )


def under_owner(acl: Acl, owner: str, new: str) -> Acl:
    """The ACL after a change of the object's owner: the new owner replaces the old one everywhere."""
    if owner == new:
        return acl
    merged: dict[tuple[str, str, str], bool] = {}
    for grant in acl:
        grantor, grantee = (new if role == owner else role for role in (grant.grantor, grant.grantee))
        key = (grantor, grantee, grant.privilege)
        merged[key] = merged.get(key, False) or grant.grantable
    return frozenset(Grant(*key, grantable) for key, grantable in merged.items())


def within_reach(acl: Acl, owner: str, operator: Operator) -> Acl:
    """The same privileges, granted by the owner where the operator may not SET ROLE to the real grantor."""
    merged: dict[tuple[str, str, str], bool] = {}
    for grant in acl:
        reachable = grant.grantor == owner or operator.superuser or grant.grantor in operator.settable
        key = (grant.grantor if reachable else owner, grant.grantee, grant.privilege)
        merged[key] = merged.get(key, False) or grant.grantable
    return frozenset(Grant(*key, grantable) for key, grantable in merged.items())


def changes(securable: GrantTarget, owner: str, wanted: Acl, current: Acl, operator: Operator) -> list[sql.Composed]:
    """The statements that change ``current`` into ``wanted`` on an object of ``owner``; none where they are equal.

    First the missing grants, from the owner outwards (a grantor needs the grant option), then the surplus ones in the
    opposite order: so no REVOKE has to cascade.
    """
    present = {(g.grantor, g.grantee, g.privilege): g.grantable for g in current}
    required = {(g.grantor, g.grantee, g.privilege): g.grantable for g in wanted}
    granted = [g for g in wanted if present.get((g.grantor, g.grantee, g.privilege), -1) < g.grantable]
    revoked = [g for g in current if (g.grantor, g.grantee, g.privilege) not in required]
    without_option = [g for g in current if g.grantable and required.get((g.grantor, g.grantee, g.privilege)) is False]
    statements = []
    for (_, grantor, grantee, grantable), words in sorted(_grouped(granted, wanted, owner).items()):
        option = sql.SQL(" WITH GRANT OPTION" if grantable else "")
        statement = sql.SQL("GRANT {} ON {} TO {}{}").format(
            _list(words, securable), securable.on, _role(grantee), option
        )
        statements.append(_complete(securable, grantor, owner, statement, operator))
    revokes = [
        (key, words, only_option)
        for only_option, grants in ((True, without_option), (False, revoked))
        for key, words in _grouped(grants, current, owner).items()
    ]
    for (_, grantor, grantee, _), words, only_option in sorted(revokes, reverse=True):
        statement = sql.SQL("REVOKE {}{} ON {} FROM {}").format(
            sql.SQL("GRANT OPTION FOR " if only_option else ""),
            _list(words, securable),
            securable.on,
            _role(grantee),
        )
        statements.append(_complete(securable, grantor, owner, statement, operator))
    return statements


def _complete(
    securable: GrantTarget, grantor: str, owner: str, statement: sql.Composed, operator: Operator
) -> sql.Composed:
    if securable.before is not None:
        # ALTER DEFAULT PRIVILEGES FOR ROLE needs no SET ROLE.
        return sql.SQL("{} {}").format(securable.before, statement)
    return operator.run_as(grantor, statement, owner=grantor == owner)


def _grouped(grants: Iterable[Grant], among: Acl, owner: str) -> dict[tuple[int, str, str, bool], list[str]]:
    distance = _distances(among, owner)
    groups: dict[tuple[int, str, str, bool], list[str]] = defaultdict(list)
    for grant in grants:
        step = distance.get((grant.grantor, grant.privilege), len(among))
        groups[step, grant.grantor, grant.grantee, grant.grantable].append(grant.privilege)
    return groups


def _distances(acl: Acl, owner: str) -> dict[tuple[str, str], int]:
    """The number of grants between the owner and each role's grant option, for each privilege."""
    distances = {(owner, grant.privilege): 0 for grant in acl}
    grew = True
    while grew:
        grew = False
        for grant in acl:
            before = distances.get((grant.grantor, grant.privilege))
            if grant.grantable and before is not None and (grant.grantee, grant.privilege) not in distances:
                distances[grant.grantee, grant.privilege] = before + 1
                grew = True
    return distances


def _list(words: list[str], securable: GrantTarget) -> sql.Composed:
    column = sql.SQL("") if securable.column is None else sql.SQL(" ({})").format(sql.Identifier(securable.column))
    return sql.SQL(", ").join(_WORDS[word] + column for word in sorted(words))


def _role(name: str) -> sql.Composable:
    return sql.SQL("PUBLIC") if name == PUBLIC else sql.Identifier(name)
