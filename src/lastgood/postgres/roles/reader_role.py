"""A role that can log in and read, and nothing else: for queries that can run code which others put into the database.

Planning a query evaluates index predicates, statistics and constraints of its tables, and reading rows evaluates
policies, casts and checks, with the rights of the session. A session of a superuser must not do that. COPY of a table
and queries over the catalogue run no such code, and need no such role.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from lastgood.errors import LastgoodError
from lastgood.postgres import database
from lastgood.postgres.errors import one_line
from lastgood.postgres.roles import build_role
from lastgood.postgres.roles.second_login import NoSecondLogin
from lastgood.postgres.roles.strength import strength
from lastgood.postgres.server import Connection, Target


@dataclass(frozen=True, slots=True)
class ReaderRole:
    """``target``: the same database with the role's password, for read-only transactions; that of the operator if the
    operator's own role has no rights that code could use outside of the database, or if ``why_not`` says why there is
    no role. ``user``: the name of that role."""

    target: Target = field(repr=False)
    made: bool = False
    why_not: str = ""
    user: str = ""

    @property
    def caution(self) -> str:
        """The reason why code in the database is not confined; empty if it is."""
        why = f"cannot read it as a role without rights: {self.why_not}"
        return f'code in the database runs with the rights of role "{self.user}": {why}' if self.why_not else ""

    @property
    def confined(self) -> bool:
        """Whether code that runs in sessions of ``target`` has no rights outside of the database."""
        return not self.why_not


@contextmanager
def reader_role(
    operator: Target, session: Connection, *, writes: bool = False, temporary: bool = False
) -> Iterator[ReaderRole]:
    """A role that reads the database of ``session``, a session of ``operator``, if that has rights that code could use.
    It is dropped at the end. ``writes``: it may change rows too, without triggers, as a drill does to its stand-in.
    ``temporary``: it may create temporary tables, in transactions that the caller rolls back. Raises psycopg.Error only
    for ``session``."""
    if not strength(session):
        yield ReaderRole(operator)
        return
    name = session.info.dbname
    run = f"read-{secrets.token_hex(4)}"
    with ExitStack() as stack:
        try:
            maintenance = stack.enter_context(database.connect_maintenance(operator, name))
            public = maintenance.execute(build_role.PUBLIC_CONNECT, [name]).fetchone() == (True,)
            target = _made(maintenance, operator, run, name, public, writes, temporary)
        except (LastgoodError, psycopg.Error) as error:
            found = ReaderRole(operator, why_not=_why(error), user=session.info.user)
        else:
            found = ReaderRole(target, made=True)
            stack.callback(_end, maintenance, operator, build_role.name_of(run))
        yield found


def _why(error: LastgoodError | psycopg.Error) -> str:
    if isinstance(error, NoSecondLogin):
        return error.why  # its message is about a restore point
    return error.message if isinstance(error, LastgoodError) else one_line(error)


def _made(
    maintenance: Connection, operator: Target, run: str, name: str, public: bool, writes: bool, temporary: bool
) -> Target:
    role = sql.Identifier(build_role.name_of(run))
    grants = [sql.SQL("GRANT pg_read_all_data TO {}").format(role)]
    if maintenance.info.parameter_status("is_superuser") == "on":
        # Rows that are hidden by row-level security must not be left out.
        grants.append(sql.SQL("ALTER ROLE {} BYPASSRLS").format(role))
    if writes:
        grants.append(sql.SQL("GRANT pg_write_all_data TO {}").format(role))
    if temporary:
        grants.append(sql.SQL("GRANT TEMPORARY ON DATABASE {} TO {}").format(sql.Identifier(name), role))
    if (writes or temporary) and maintenance.info.parameter_status("is_superuser") == "on":
        grants.append(sql.SQL("GRANT SET ON PARAMETER session_replication_role TO {}").format(role))
    if not public:
        grants.append(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(name), role))
    made = build_role.make_reader(maintenance, operator, run=run, live=name, grants=grants)
    if writes or temporary:
        return made.at(name)
    # Code must not change the role's password, or leave anything: a transaction that began read-only stays so.
    return Target({**made.at(name).keywords, "options": "-c default_transaction_read_only=on"})


def _end(maintenance: Connection, operator: Target, role: str) -> None:
    with suppress(psycopg.Error, LastgoodError):  # prune and abort end what is left
        build_role.end(maintenance, operator, role)
