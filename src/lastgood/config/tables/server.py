"""Limits of lastgood on the server."""

from __future__ import annotations

from pydantic import Field

from lastgood.config.tables.kinds import Duration, Table


class Server(Table):
    """Limits of lastgood on the server."""

    wait_limit: Duration = Field(
        default=15.0,
        gt=0,
        description="How long CREATE DATABASE, DROP DATABASE and other commands on a database may wait for another "
        "session: one that holds a lock, or waits for a synchronous standby that does not respond.",
    )
