"""Whether a transaction pooler is between lastgood and the server.

Behind one, each transaction may run in another session: settings, locks and prepared statements are lost, or are those
of the application.
"""

from __future__ import annotations

from lastgood.errors import Refused
from lastgood.postgres.server import Connection, Target

_ATTEMPTS = 3
TEXT = "this connection goes through a transaction pooler: each statement may run in another session"
HINT = "Connect to the server directly, or through the pooler's session mode."


def shares_sessions(connection: Connection) -> bool:
    """Whether the session of ``connection`` serves other clients between two transactions. Needs autocommit. Raises
    psycopg.Error.

    An idle pooler gives the same session to one client again and again: only a second client shows it.
    """
    if _session(connection) == connection.info.backend_pid:
        return False  # a pooler invents the number that it gives to its client
    info = connection.info
    target = Target({**info.get_parameters(), **({"password": info.password} if info.password else {})})
    for _ in range(_ATTEMPTS):
        used = _session(connection)
        with target.connect_unchanged() as other, other.transaction():
            if _session(other) == used:
                return True
        if _session(connection) != used:
            return True
    return False


def refuse(connection: Connection, doing: str) -> None:
    """Raise Refused behind a transaction pooler: ``cannot <doing>``."""
    if shares_sessions(connection):
        raise Refused(f"cannot {doing}: {TEXT}", hint=HINT)


def _session(connection: Connection) -> int:
    # Not prepared: the name of a statement may exist already in a shared session.
    (pid,) = connection.execute("SELECT pg_catalog.pg_backend_pid()", prepare=False).fetchone() or (0,)
    return int(pid)
