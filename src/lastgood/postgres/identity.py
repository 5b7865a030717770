"""Which server a connection reaches: the same one, a copy of it, or another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg

from lastgood.postgres.server import Connection, only_row


@dataclass(frozen=True, slots=True)
class Identity:
    """``system`` is created by initdb and copied by every physical backup; None without the privilege to read it.
    ``started`` is the start of the server, to the microsecond."""

    system: int | None
    started: datetime


def identity(connection: Connection) -> Identity:
    """The identity of the server behind ``connection`` (autocommit)."""
    row = only_row(connection, "SELECT pg_catalog.pg_postmaster_start_time()")
    try:
        control = connection.execute("SELECT system_identifier FROM pg_catalog.pg_control_system()").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        control = None  # some platforms revoke it
    return Identity(control[0] if control is not None else None, row[0])


def same_cluster(one: Identity, other: Identity) -> bool:
    """Whether they are one cluster, or physical copies of one. Unrelated servers do not start in the same
    microsecond."""
    return one.started == other.started or (one.system is not None and one.system == other.system)
