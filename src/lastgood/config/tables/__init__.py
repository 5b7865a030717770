"""The tables of ``lastgood.toml``: settings around a rollback that are too long for a command line.

These classes are the only definition: the reader of the file, ``lastgood config schema`` and the reference use them.
The reference prints the descriptions."""

from __future__ import annotations

from pydantic import Field

from lastgood.config.tables.application import NO_PGBOUNCER, Health, Hooks, PgBouncer, Sentry, Watch
from lastgood.config.tables.checking import Check, Polymorphic, Rule, Validate
from lastgood.config.tables.deploying import Deploy
from lastgood.config.tables.guide import Guide
from lastgood.config.tables.kinds import Command, Conninfos, Duration, Expected, Folder, Size, Table
from lastgood.config.tables.notifying import Notifications, Recipient
from lastgood.config.tables.recording import Record
from lastgood.config.tables.recovering import Audit, Recover
from lastgood.config.tables.rehearsing import Drill
from lastgood.config.tables.retaining import Keep, Retention
from lastgood.config.tables.server import Server

__all__ = [
    "NO_PGBOUNCER",
    "Audit",
    "Check",
    "Command",
    "Conninfos",
    "Deploy",
    "Drill",
    "Duration",
    "Expected",
    "Folder",
    "Guide",
    "Health",
    "Hooks",
    "Keep",
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
    drill: Drill = Drill()
    deploy: Deploy = Deploy()
    guide: Guide = Guide()
