"""State outside any restore point: the database's own settings and privileges, which are restored after a failed
deployment, and objects of the whole server, whose changes are only reported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import LiteralString

import psycopg

from lastgood.command.deploy.course import Course
from lastgood.dump.names import shown
from lastgood.errors import LastgoodError
from lastgood.postgres import database
from lastgood.postgres.access.grants import Operator
from lastgood.postgres.apply import apply
from lastgood.postgres.deployment import find_deployment
from lastgood.postgres.mark import read_mark
from lastgood.postgres.server import Connection
from lastgood.postgres.state import DatabaseState

# Each: the name, and everything that can change about it. Some need privileges; the values are never shown.
_OF_THE_SERVER: tuple[tuple[str, LiteralString], ...] = (
    (
        "role",
        """
        SELECT r.rolname, concat_ws(' ', r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin,
                 r.rolreplication, r.rolbypassrls, r.rolconnlimit, r.rolvaliduntil, r.rolconfig::text,
                 (SELECT string_agg(concat_ws(' ', m.roleid::regrole, m.admin_option), ',' ORDER BY m.roleid, m.grantor)
                  FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid))
        FROM pg_catalog.pg_roles r
        """,
    ),
    ("password of role", "SELECT rolname, md5(coalesce(rolpassword, '')) FROM pg_catalog.pg_authid"),
    (
        "server setting",
        """
        SELECT name, string_agg(setting, ' ' ORDER BY seqno) FROM pg_catalog.pg_file_settings
        WHERE sourcefile ~ 'postgresql\\.auto\\.conf$' GROUP BY name
        """,
    ),
    ("tablespace", "SELECT spcname, concat_ws(' ', spcowner::regrole, spcacl::text) FROM pg_catalog.pg_tablespace"),
)


def of_the_server(connection: Connection, live: str) -> dict[tuple[str, str], str]:
    """Return the objects of the server outside the live database: kind and name, with a summary of the state. What this
    role cannot read is left out."""
    found: dict[tuple[str, str], str] = {}
    for kind, query in _OF_THE_SERVER:
        with suppress(psycopg.errors.InsufficientPrivilege):
            found |= {(kind, str(name)): str(value) for name, value in connection.execute(query)}
    for each in database.all_databases(connection):
        if each.name != live and read_mark(each.comment) is None:
            found["database", each.name] = each.owner
    return found


def remark_on_server(course: Course) -> None:
    """Remark on objects of the server that changed since the deployment started: a rollback does not revert them."""
    try:
        now = of_the_server(course.hold.connection(), course.live)
    except (psycopg.Error, LastgoodError):
        return
    for text in _changes(course.server, now):
        course.remark(text)


def _changes(then: Mapping[tuple[str, str], str], now: Mapping[tuple[str, str], str]) -> Iterator[str]:
    made, gone = sorted(now.keys() - then.keys()), sorted(then.keys() - now.keys())
    other = sorted(key for key in then.keys() & now.keys() if then[key] != now[key])
    # For a created or dropped role, the password is not reported separately.
    for keys, change in (
        (made, "created since the deployment started, and remains"),
        (gone, "dropped since the deployment started, and is not recreated"),
        (other, "changed since the deployment started, and is not reverted"),
    ):
        for kind, name in keys:
            if kind != "password of role" or keys is other:
                yield f'the {kind} "{shown(name)}" was {change}'


def put_back(course: Course) -> None:
    """Restore the live database's own name, settings, privileges, owner and comment where they changed since the
    deployment started, and open it to connections. What cannot be restored is left as it is and reported."""
    live, hold = course.live, course.hold
    try:
        connection = hold.connection()
        _named(course, connection)
        found = database.find(connection, live)
        if found is None or course.state is None:
            return
        if not found.allow_connections:
            database.allow_connections(connection, live, True)
            course.remark(f'"{live}" was closed to connections during the deployment, and was opened again')
        now = DatabaseState.read(connection, live)
        if now != course.state:
            refused = apply(connection, course.state.statements(live, now, Operator.read(connection)))
            changed = f'settings, privileges, owner or comment of "{live}" itself changed during the deployment'
            if DatabaseState.read(connection, live) == course.state:
                course.remark(f"{changed}, and were restored")
            else:
                why = f": {refused[0].message}" if refused else ""
                course.remark(f"{changed}, and could not all be restored{why}")
        if hold.mark is not None and find_deployment(connection, live) is None:
            hold.record_stage(hold.mark.stage)
    except (LastgoodError, psycopg.Error) as error:
        course.remark(f'cannot restore the settings of "{live}" itself: {error}')


def _named(course: Course, connection: Connection) -> None:
    """Rename the live database back, if the migration only renamed it."""
    if database.find(connection, course.live) is None and (there := course.hold.there(connection)) is not None:
        database.rename(connection, there.name, course.live)
        course.remark(
            f'the live database was renamed to "{shown(there.name)}" during the deployment, and was renamed back'
        )
