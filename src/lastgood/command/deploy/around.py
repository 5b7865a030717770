"""What stands around a database and is in no restore point: its own settings and rights, which are put back when a
deployment has failed; and what belongs to the whole server, of which it is told what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import LiteralString

import psycopg

from lastgood.command.deploy.course import Course
from lastgood.dump.names import shown
from lastgood.errors import LastgoodError
from lastgood.postgres import database
from lastgood.postgres.apply import apply
from lastgood.postgres.deployment import find_deployment
from lastgood.postgres.grants import Operator
from lastgood.postgres.mark import read_mark
from lastgood.postgres.server import Connection
from lastgood.postgres.state import DatabaseState

# Each: its name, and all that can change of it. Not everybody may see everything; nothing of it is ever shown.
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
    ("password of the role", "SELECT rolname, md5(coalesce(rolpassword, '')) FROM pg_catalog.pg_authid"),
    (
        "server's setting",
        """
        SELECT name, string_agg(setting, ' ' ORDER BY seqno) FROM pg_catalog.pg_file_settings
        WHERE sourcefile ~ 'postgresql\\.auto\\.conf$' GROUP BY name
        """,
    ),
    ("tablespace", "SELECT spcname, concat_ws(' ', spcowner::regrole, spcacl::text) FROM pg_catalog.pg_tablespace"),
)


def of_the_server(connection: Connection, live: str) -> dict[tuple[str, str], str]:
    """What there is besides the live database: kind and name, and its state in a word. What this role may not look at
    is left out."""
    found: dict[tuple[str, str], str] = {}
    for kind, query in _OF_THE_SERVER:
        with suppress(psycopg.errors.InsufficientPrivilege):
            found |= {(kind, str(name)): str(value) for name, value in connection.execute(query)}
    for each in database.every(connection):
        if each.name != live and read_mark(each.comment) is None:
            found["database", each.name] = each.owner
    return found


def tell(course: Course) -> None:
    """Tells what of the server changed since the deployment began: no rollback takes that back."""
    try:
        now = of_the_server(course.hold.connection(), course.live)
    except (psycopg.Error, LastgoodError):
        return
    for text in _changes(course.server, now):
        course.remark(text)


def _changes(then: Mapping[tuple[str, str], str], now: Mapping[tuple[str, str], str]) -> Iterator[str]:
    made, gone = sorted(now.keys() - then.keys()), sorted(then.keys() - now.keys())
    other = sorted(key for key in then.keys() & now.keys() if then[key] != now[key])
    # The password of a role that was made, or dropped, is not another thing.
    for keys, said in (
        (made, "made since the deployment began, and stays"),
        (gone, "removed since the deployment began, and is not made again"),
        (other, "changed since the deployment began, and is not changed back"),
    ):
        for kind, name in keys:
            if kind != "password of the role" or keys is other:
                yield f'the {kind} "{shown(name)}" was {said}'


def put_back(course: Course) -> None:
    """Gives the live database its own name, settings, privileges, owner and comment again, where they were changed
    since the deployment began, and opens it: whoever can't connect to it has no use for its rows. Where that can't be
    done, what was found is left, and told."""
    live, hold = course.live, course.hold
    try:
        connection = hold.connection()
        _named(course, connection)
        found = database.find(connection, live)
        if found is None or course.state is None:
            return
        if not found.allow_connections:
            database.allow_connections(connection, live, True)
            course.remark(f'"{live}" had been closed to connections since the deployment began: it was opened again')
        now = DatabaseState.read(connection, live)
        if now != course.state:
            refused = apply(connection, course.state.statements(live, now, Operator.read(connection)))
            said = f'settings, privileges, owner or comment of "{live}" itself were changed since the deployment began'
            if DatabaseState.read(connection, live) == course.state:
                course.remark(f"{said}, and put back")
            else:
                why = f": {refused[0].message}" if refused else ""
                course.remark(f"{said}, and could not all be put back{why}")
        if hold.mark is not None and find_deployment(connection, live) is None:
            hold.say(hold.mark.stage)
    except (LastgoodError, psycopg.Error) as error:
        course.remark(f'what the migration changed of "{live}" itself could not be put back: {error}')


def _named(course: Course, connection: Connection) -> None:
    """A database that was only renamed needs no more than its name."""
    if database.find(connection, course.live) is None and (there := course.hold.there(connection)) is not None:
        database.rename(connection, there.name, course.live)
        course.remark(f'the live database had been renamed to "{shown(there.name)}": it is "{course.live}" again')
