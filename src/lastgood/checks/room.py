"""Disk space on the server for the restored database and its WAL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg

from lastgood.checklist import Finding, Known, Passed
from lastgood.checks.subject import Subject
from lastgood.postgres.pressure.machine import is_here
from lastgood.postgres.pressure.risks import risks
from lastgood.postgres.pressure.rules import Limits
from lastgood.text import units

_ATTESTED = "[check] free_space in lastgood.toml"


def data(s: Subject) -> Iterator[Finding | Passed]:
    """Free space, measured where the server's folder is on this machine; else as given in lastgood.toml."""
    need, attested = s.room_needed, s.request.check.free_space
    copy = " in its tablespace for a second copy of the schemas and its WAL" if s.in_place is not None else ""
    needed = f"about {units.size(need)} are needed{copy}"
    folder = _folder(s)
    if folder is not None:
        free = shutil.disk_usage(folder).free
        if free < need:
            yield Finding(
                level="refusal",
                code="no_room",
                text=f"the server's disk has {units.size(free)} free; {needed}",
                hint="Free disk space: lastgood prune lists kept databases and old restore points.",
                known="measured",
            )
        else:
            yield Passed(
                text=f"the server's disk has {units.size(free)} free; {needed}",
                known="measured",
            )
    elif attested is None:
        yield Finding(
            level="caution",
            code="room_unknown",
            text=f"cannot measure free disk space on the server from here; {needed}",
            hint=f"Set it as {_ATTESTED}, or confirm it yourself: --attest room=NAME",
            known="unknown",
        )
    elif attested < need:
        yield Finding(
            level="refusal",
            code="no_room",
            text=f"the server's disk has {units.size(attested)} free by {_ATTESTED}; {needed}",
            hint="Free disk space, then correct that number: lastgood prune lists kept databases.",
        )
    else:
        yield Passed(text=f"the server's disk has {units.size(attested)} free by {_ATTESTED}; {needed}")


def wal(s: Subject) -> Iterator[Finding]:
    """WAL receivers that lag, an archiver that fails, disks that are nearly full."""
    for risk in risks(s.maintenance, s.room_needed, Limits(max_wal_lag=s.request.pace.max_wal_lag)):
        known: Known = "unknown" if risk.code == "wal_unseen" else "measured"
        yield Finding(level=risk.level, code=risk.code, text=risk.text, hint=risk.hint, known=known)


def _folder(s: Subject) -> Path | None:
    """The folder of the restored database, if it is on this machine. Behind "localhost" there may be a container or a
    tunnel, and the folder of that name on this machine may belong to another server."""
    try:
        with s.maintenance.transaction():
            row = s.maintenance.execute(
                "SELECT coalesce(nullif(pg_catalog.pg_tablespace_location(t.oid), ''),"
                " current_setting('data_directory')) FROM pg_catalog.pg_tablespace t WHERE t.spcname = %s",
                [s.database.tablespace],
            ).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    folder = Path(row[0]) if row is not None else None
    if folder is None or not is_here(s.maintenance):
        return None
    try:
        return folder if folder.exists() else None
    except OSError:
        return None
