"""Which cluster is behind a connection, whatever address led to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg

from lastgood.postgres.server import Connection


@dataclass(frozen=True, slots=True)
class Identity:
    """``system`` is made by initdb and copied by every physical backup; None where it may not be read. ``started`` is
    when this server process began, to the microsecond."""

    system: int | None
    started: datetime


def identity(connection: Connection) -> Identity:
    """That of the server behind ``connection`` (autocommit)."""
    row = connection.execute("SELECT pg_catalog.pg_postmaster_start_time()").fetchone()
    assert row is not None, "a SELECT without FROM always gives a row"
    try:
        found = connection.execute("SELECT system_identifier FROM pg_catalog.pg_control_system()").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        found = None  # some platforms take it away
    return Identity(found[0] if found is not None else None, row[0])


def same_cluster(one: Identity, other: Identity) -> bool:
    """Whether they are one cluster, or physical copies of one. Two that have nothing to do with each other do not begin
    in the same microsecond."""
    return one.started == other.started or (one.system is not None and one.system == other.system)
