"""The tables of ``lastgood.toml``: settings around a rollback that are too long for a command line.

These classes are the only definition: the reader of the file, ``lastgood config schema`` and the reference use them.
The reference prints the descriptions."""

from __future__ import annotations

from pydantic import Field

from lastgood.config.tables.application import (
    NO_PGBOUNCER,
    Deploy,
    Health,
    Hooks,
    Notifications,
    PgBouncer,
    Recipient,
    Sentry,
    Server,
    Watch,
)
from lastgood.config.tables.checking import (
    Audit,
    Check,
    Diff,
    Drill,
    Guide,
    Keep,
    Loss,
    Polymorphic,
    Record,
    Recover,
    Retention,
    Rule,
    Validate,
)
from lastgood.config.tables.kinds import Command, Conninfos, Duration, Expected, Folder, Size, Table

__all__ = [
    "NO_PGBOUNCER",
    "Audit",
    "Check",
    "Command",
    "Conninfos",
    "Deploy",
    "Diff",
    "Drill",
    "Duration",
    "Expected",
    "Folder",
    "Guide",
    "Health",
    "Hooks",
    "Keep",
    "Loss",
    "Notifications",
    "PgBouncer",
    "Polymorphic",
    "Recipient",
    "Record",
    "Recover",
    "Retention",
    "Rule",
    "Sentry",
    "Server",
    "Size",
    "Table",
    "Tables",
    "Validate",
    "Watch",
]


class Tables(Table):
    """All tables of ``lastgood.toml``. ``health`` and ``watch`` are None when the file lacks them."""

    hooks: Hooks = Hooks()
    server: Server = Server()
    pgbouncer: PgBouncer = PgBouncer()
    health: Health | None = None
    watch: Watch | None = None
    check: Check = Check()
    validation: Validate = Field(default=Validate(), alias="validate")
    recover: Recover = Recover()
    record: Record = Record()
    notifications: Notifications = Notifications()
    retention: Retention = Retention()
    diff: Diff = Diff()
    loss: Loss = Loss()
    drill: Drill = Drill()
    deploy: Deploy = Deploy()
    guide: Guide = Guide()
