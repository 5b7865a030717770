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
    WatchSettings,
)
from lastgood.config.tables.checking import (
    Audit,
    CheckSettings,
    Diff,
    Drill,
    Guide,
    Keep,
    Loss,
    OwnRule,
    Polymorphic,
    RecordSettings,
    Recover,
    Retention,
    Validate,
)
from lastgood.config.tables.kinds import Command, Conninfos, Duration, Expected, Folder, SettingsTable, Size

__all__ = [
    "NO_PGBOUNCER",
    "Audit",
    "CheckSettings",
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
    "OwnRule",
    "PgBouncer",
    "Polymorphic",
    "Recipient",
    "RecordSettings",
    "Recover",
    "Retention",
    "Sentry",
    "Server",
    "SettingsTable",
    "Size",
    "Tables",
    "Validate",
    "WatchSettings",
]


class Tables(SettingsTable):
    """All tables of ``lastgood.toml``. ``health`` and ``watch`` are None when the file lacks them."""

    hooks: Hooks = Hooks()
    server: Server = Server()
    pgbouncer: PgBouncer = PgBouncer()
    health: Health | None = None
    watch: WatchSettings | None = None
    check: CheckSettings = CheckSettings()
    validation: Validate = Field(default=Validate(), alias="validate")
    recover: Recover = Recover()
    record: RecordSettings = RecordSettings()
    notifications: Notifications = Notifications()
    retention: Retention = Retention()
    diff: Diff = Diff()
    loss: Loss = Loss()
    drill: Drill = Drill()
    deploy: Deploy = Deploy()
    guide: Guide = Guide()
