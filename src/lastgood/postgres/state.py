"""A database's own state, which no dump carries: owner, privileges, connection limit, comment, settings.

All of it is bound to the database's OID, so a swap by rename leaves it with the old data. It is read from the live
database and applied to the restored one in the swap's transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg import sql

from lastgood.errors import Refused
from lastgood.postgres import database
from lastgood.postgres.access.grants import Acl, GrantTarget, Operator, acl_of, changes, under_owner, within_reach
from lastgood.postgres.deployment import own_comment
from lastgood.postgres.server import Connection
from lastgood.text.quoting import identifier

# Settings that hold a list of separately quoted names: as in pg_dump's variable_is_guc_list_quote, 15 to 18.
LISTS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)


@dataclass(frozen=True, slots=True, order=True)
class DatabaseSetting:
    """``ALTER DATABASE … SET`` (``role`` empty) or ``ALTER ROLE … IN DATABASE … SET``; the value as stored.

    ``repr`` does not show the value: applications keep secrets in their settings.
    """

    role: str
    name: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """The state of a database. Databases with equal states cannot be distinguished by it.

    ``acl`` includes the defaults, so an absent ACL equals an explicit one with the same grants. ``security_labels`` are
    (provider, label): reported, but neither compared nor carried over. Whether the database accepts connections is not
    part of it: the swap decides that.
    """

    owner: str
    acl: Acl
    connection_limit: int
    is_template: bool
    comment: str | None
    settings: tuple[DatabaseSetting, ...]
    security_labels: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @classmethod
    def read(cls, connection: Connection, name: str) -> DatabaseState:
        """The state of a database of the connection's server. Raises Refused when it does not exist, or is invalid."""
        described = database.describe(connection, name)
        if described.invalid:
            raise Refused(
                f'cannot use the database "{name}": it is invalid after an interrupted DROP DATABASE',
                hint=f"Drop it: DROP DATABASE {identifier(name)}",
            )
        oid = sql.Literal(described.oid)
        acl = connection.execute(
            sql.SQL("""
            SELECT grantor.rolname, grantee.rolname, a.privilege_type, a.is_grantable
            FROM pg_database d
            CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
            JOIN pg_roles grantor ON grantor.oid = a.grantor
            LEFT JOIN pg_roles grantee ON grantee.oid = a.grantee
            WHERE d.oid = {} AND (a.grantee = 0 OR grantee.oid IS NOT NULL)""").format(oid)
        )
        settings = connection.execute(
            sql.SQL("""
            SELECT coalesce(r.rolname, ''), split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
            FROM pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) c
            LEFT JOIN pg_roles r ON r.oid = s.setrole
            WHERE s.setdatabase = {} AND (s.setrole = 0 OR r.oid IS NOT NULL)""").format(oid)
        )
        labels = connection.execute(
            sql.SQL("""
            SELECT provider, label FROM pg_shseclabel
            WHERE classoid = 'pg_database'::regclass AND objoid = {} ORDER BY provider""").format(oid)
        )
        return cls(
            owner=described.owner,
            acl=acl_of(acl),
            connection_limit=described.connection_limit,
            is_template=described.is_template,
            comment=own_comment(described.comment),
            settings=tuple(sorted(DatabaseSetting(*row) for row in settings)),
            security_labels=tuple((row[0], row[1]) for row in labels),
        )

    def statements(
        self, name: str, current: DatabaseState, operator: Operator, *, keep_owner: bool = False
    ) -> list[sql.Composed]:
        """The statements that change the database ``name`` from ``current`` to exactly this state.

        They may run in one transaction block, also after renames (``name`` is the name at that moment). With
        ``keep_owner`` the database keeps its owner, who also replaces this state's owner in the privileges. A grant
        whose grantor this role may not SET ROLE to is made by the owner instead. Statements without sufficient
        privileges are included: run ``apply.rehearse`` first, and before the commit read the state again and compare,
        since the server only warns of a GRANT or REVOKE without effect."""
        target = sql.Identifier(name)
        result: list[sql.Composed] = []
        if self.connection_limit != current.connection_limit:
            result.append(
                sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(target, sql.Literal(self.connection_limit))
            )
        if self.is_template != current.is_template:
            result.append(sql.SQL("ALTER DATABASE {} IS_TEMPLATE {}").format(target, sql.Literal(self.is_template)))
        result += self._settings(target, current)
        if self.comment != current.comment:
            result.append(sql.SQL("COMMENT ON DATABASE {} IS {}").format(target, sql.Literal(self.comment)))
        # The owner changes after everything that only the old owner may change, and before the grants of the new one.
        owner = current.owner if keep_owner else self.owner
        if owner != current.owner:
            result.append(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(target, sql.Identifier(owner)))
        wanted = within_reach(under_owner(self.acl, self.owner, owner), owner, operator)
        present = under_owner(current.acl, current.owner, owner)
        securable = GrantTarget(sql.SQL("DATABASE {}").format(target))
        return result + changes(securable, owner, wanted, present, operator)

    def _settings(self, target: sql.Identifier, current: DatabaseState) -> list[sql.Composed]:
        wanted = {(s.role, s.name): s.value for s in self.settings}
        present = {(s.role, s.name): s.value for s in current.settings}
        result = []
        for role, setting in sorted(present.keys() - wanted.keys()):
            result.append(sql.SQL("{} RESET {}").format(_whose(target, role), sql.Identifier(setting)))
        for (role, setting), value in sorted(wanted.items()):
            if present.get((role, setting)) != value:
                result.append(
                    sql.SQL("{} SET {} TO {}").format(
                        _whose(target, role), sql.Identifier(setting), setting_value(setting, value)
                    )
                )
        return result


def _whose(target: sql.Identifier, role: str) -> sql.Composed:
    if role:
        return sql.SQL("ALTER ROLE {} IN DATABASE {}").format(sql.Identifier(role), target)
    return sql.SQL("ALTER DATABASE {}").format(target)


def setting_value(name: str, stored: str) -> sql.Composable:
    """A stored setting as SET expects it: lists of names element by element, everything else as one string.

    Written as one string, a search_path of two schemas would name a single schema with a comma in its name.
    """
    if name.lower() not in LISTS:
        return sql.Literal(stored)
    elements = split_list(stored)
    return sql.SQL(", ").join(map(sql.Literal, elements)) if elements else sql.Literal("")


def split_list(stored: str) -> list[str]:
    """The elements of a stored list: separated by commas, those in double quotes unchanged ("" is one quote).

    As in the server's SplitGUCList, but without folding to lower case.
    """
    elements: list[str] = []
    current = ""
    quoted = False
    position = 0
    while position < len(stored):
        character = stored[position]
        if quoted and stored.startswith('""', position):
            current += '"'
            position += 1
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            elements.append(current)
            current = ""
        elif quoted or not character.isspace():
            current += character
        position += 1
    return [*elements, current] if stored.strip() else []
