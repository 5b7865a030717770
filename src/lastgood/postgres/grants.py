"""Privileges on one object as data, and the statements that turn one set of them into another.

PostgreSQL keeps an ACL of (grantor, grantee, privilege, grant option); an absent ACL means the kind's default, which
may include PUBLIC. Here an ACL is always the full set, defaults spelled out, so that equal sets mean equal privileges.
"""

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
    """One privilege that ``grantor`` gave to ``grantee`` (``PUBLIC`` is the empty string)."""

    grantor: str
    grantee: str
    privilege: str
    grantable: bool


Acl = frozenset[Grant]


@dataclass(frozen=True, slots=True)
class Operator:
    """The role that we work as. ``inherits``: roles whose rights we have; ``settable``: those we may SET ROLE to."""

    name: str
    superuser: bool
    inherits: frozenset[str]
    settable: frozenset[str]

    @classmethod
    def read(cls, connection: Connection) -> Operator:
        """Who the connection's current user is, and for whom it may act."""
        # Since 16 membership, inheriting and SET ROLE are three things; before, every member may SET ROLE.
        become = sql.Literal("SET" if connection.info.server_version >= 160000 else "MEMBER")
        rows = connection.execute(
            sql.SQL("""
            SELECT rolname, pg_has_role(oid, 'USAGE'), pg_has_role(oid, {}), rolname = current_user, rolsuper
            FROM pg_roles""").format(become)
        ).fetchall()
        name, superuser = next((row[0], row[4]) for row in rows if row[3])
        return cls(name, superuser, frozenset(r[0] for r in rows if r[1]), frozenset(r[0] for r in rows if r[2]))

    def run_as(self, role: str, statement: sql.Composed, *, owner: bool) -> sql.Composed:
        """The statement, wrapped in SET ROLE where it takes that for ``role`` to become the grantor.

        For an object's ``owner`` it does not, where we have his rights. The wrapped form is three statements in one
        string: they hold or fail together, in a transaction or without.
        """
        if role == self.name or (owner and (self.superuser or role in self.inherits)):
            return statement
        return sql.SQL("SET ROLE {}; {}; RESET ROLE").format(sql.Identifier(role), statement)


@dataclass(frozen=True, slots=True)
class Securable:
    """What privileges are on, as GRANT names it: ``TABLE "public"."t"``; of a ``column``, or, with ``before``, the
    defaults of objects to come (``ALTER DEFAULT PRIVILEGES FOR ROLE …`` and ``TABLES``)."""

    on: sql.Composable
    before: sql.Composable | None = None
    column: str | None = None


def acl_of(rows: Iterable[Any]) -> Acl:
    """An ACL from rows of (grantor, grantee, privilege, grantable), grantee None or empty for PUBLIC."""
    return frozenset(
        Grant(grantor, grantee or PUBLIC, privilege, grantable) for grantor, grantee, privilege, grantable in rows
    )


def under_owner(acl: Acl, owner: str, new: str) -> Acl:
    """What becomes of an ACL when its object changes hands: the new owner stands wherever the old one stood."""
    if owner == new:
        return acl
    merged: dict[tuple[str, str, str], bool] = {}
    for grant in acl:
        grantor, grantee = (new if role == owner else role for role in (grant.grantor, grant.grantee))
        key = (grantor, grantee, grant.privilege)
        merged[key] = merged.get(key, False) or grant.grantable
    return frozenset(Grant(*key, grantable) for key, grantable in merged.items())


def within_reach(acl: Acl, owner: str, operator: Operator) -> Acl:
    """The same privileges, given by the owner where the real grantor is a role that we may not SET ROLE to."""
    merged: dict[tuple[str, str, str], bool] = {}
    for grant in acl:
        reachable = grant.grantor == owner or operator.superuser or grant.grantor in operator.settable
        key = (grant.grantor if reachable else owner, grant.grantee, grant.privilege)
        merged[key] = merged.get(key, False) or grant.grantable
    return frozenset(Grant(*key, grantable) for key, grantable in merged.items())


def changes(securable: Securable, owner: str, wanted: Acl, found: Acl, operator: Operator) -> list[sql.Composed]:
    """The statements that make ``wanted`` of ``found`` on an object of ``owner``; none where they are equal.

    First what is missing, from the owner outwards (who grants must hold the grant option), then what is too much,
    the other way round: so nothing ever has to cascade.
    """
    had = {(g.grantor, g.grantee, g.privilege): g.grantable for g in found}
    want = {(g.grantor, g.grantee, g.privilege): g.grantable for g in wanted}
    give = [g for g in wanted if had.get((g.grantor, g.grantee, g.privilege), -1) < g.grantable]
    take = [g for g in found if (g.grantor, g.grantee, g.privilege) not in want]
    lower = [g for g in found if g.grantable and want.get((g.grantor, g.grantee, g.privilege)) is False]
    statements = []
    for (_, grantor, grantee, grantable), words in sorted(_grouped(give, wanted, owner).items()):
        option = sql.SQL(" WITH GRANT OPTION" if grantable else "")
        statement = sql.SQL("GRANT {} ON {} TO {}{}").format(
            _list(words, securable), securable.on, _role(grantee), option
        )
        statements.append(_whole(securable, grantor, owner, statement, operator))
    revokes = [
        (key, words, only_option)
        for only_option, grants in ((True, lower), (False, take))
        for key, words in _grouped(grants, found, owner).items()
    ]
    for (_, grantor, grantee, _), words, only_option in sorted(revokes, reverse=True):
        statement = sql.SQL("REVOKE {}{} ON {} FROM {}").format(
            sql.SQL("GRANT OPTION FOR " if only_option else ""),
            _list(words, securable),
            securable.on,
            _role(grantee),
        )
        statements.append(_whole(securable, grantor, owner, statement, operator))
    return statements


def _whole(securable: Securable, grantor: str, owner: str, statement: sql.Composed, operator: Operator) -> sql.Composed:
    if securable.before is not None:
        # ALTER DEFAULT PRIVILEGES FOR ROLE acts for that role by itself.
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
    """How many grants away from the owner each role got the option to grant each privilege."""
    found = {(owner, grant.privilege): 0 for grant in acl}
    grew = True
    while grew:
        grew = False
        for grant in acl:
            before = found.get((grant.grantor, grant.privilege))
            if grant.grantable and before is not None and (grant.grantee, grant.privilege) not in found:
                found[grant.grantee, grant.privilege] = before + 1
                grew = True
    return found


def _list(words: list[str], securable: Securable) -> sql.Composed:
    column = sql.SQL("") if securable.column is None else sql.SQL(" ({})").format(sql.Identifier(securable.column))
    return sql.SQL(", ").join(_WORDS[word] + column for word in sorted(words))


def _role(name: str) -> sql.Composable:
    return sql.SQL("PUBLIC") if name == PUBLIC else sql.Identifier(name)
