"""The tables of lastgood.toml for the application, PgBouncer, deployments, notifications and the server.

The addresses of recipients are never in the file itself, since they hold tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lastgood.config.tables.kinds import Command, Conninfos, Duration, Folder, SettingsTable, as_list


def _no_password(url: str) -> str:
    if "@" in urlsplit(url).netloc:
        raise ValueError("it contains a user or a password: send credentials in headers, from a variable")
    return url


class Hooks(SettingsTable):
    """The platform's own commands, around a rollback. Each is a list of a program and its arguments, run without a
    shell, with the facts of the run in its environment (LASTGOOD_RUN, LASTGOOD_LIVE, …). An exit status other than 0
    is a failure."""

    maintenance_on: Command | None = Field(default=None, description="Switches maintenance mode on.")
    maintenance_off: Command | None = Field(default=None, description="Switches maintenance mode off.")
    stop: Command | None = Field(
        default=None, description="Stops everything that writes: application servers, workers, cron jobs."
    )
    start: Command | None = Field(default=None, description="Starts it again after the switch.")
    smoke: Command | None = Field(default=None, description="Tests the most common actions of users after the switch.")
    time_limit: Duration = Field(default=60.0, description="The time limit of each hook.")


class PgBouncer(SettingsTable):
    """PgBouncer, paused through its admin console during the switch, so that no query of its clients fails."""

    admin: Conninfos = Field(
        default=(), description="The connection to each PgBouncer's admin console: host, port, user; no password."
    )
    databases: tuple[str, ...] = Field(
        default=(), description="Names in [databases] of PgBouncer (default: all that lead to the live database)."
    )
    pause_limit: Duration = Field(
        default=10.0,
        description="How long PAUSE waits for transactions to end; the switch terminates only the sessions of those "
        "that are still open then.",
    )


NO_PGBOUNCER = PgBouncer()


class Health(SettingsTable):
    """The application's health check, by HTTP after the application was started again."""

    url: Annotated[str, AfterValidator(_no_password)] = Field(
        pattern=r"^https?://", description="The URL to request with GET; no password."
    )
    status: int = Field(default=200, ge=100, le=599, description="The status of a healthy response.")
    body: Mapping[str, Any] | None = Field(
        default=None, alias="json", description="What its JSON response must contain, at least: { status = 'ok' }."
    )
    headers: Mapping[str, str] = Field(
        default_factory=dict,
        description="Headers to send: names, each with the environment variable that holds the value.",
    )
    time_limit: Duration = Field(default=5.0, description="The time limit of one request.")
    deadline: Duration = Field(
        default=60.0, description="How long requests are repeated before the check fails; 0 sends one request."
    )


class Sentry(SettingsTable):
    """Sentry, which counts the application's errors."""

    url: str = Field(default="https://sentry.io", pattern=r"^https?://", description="The server.")
    organization: str = Field(description="The organization's slug.")
    project: str = Field(description="The project's slug.")
    token_variable: str = Field(default="SENTRY_AUTH_TOKEN", description="The variable that holds the token.")


class WatchSettings(SettingsTable):
    """The watch of the server after the switch, compared with figures from before. Without this table (and without
    --watch) there is none."""

    length: Duration = Field(default=60.0, description="The length of the watch.")
    every: Duration = Field(default=5.0, gt=0, description="The interval between samples.")
    factor: float = Field(
        default=3.0, gt=1, description="A figure counts as worse if it is at least this multiple of its earlier value."
    )
    sentry: Sentry | None = Field(
        default=None, description="Sentry, to compare the rate of the application's errors too."
    )


def _variables(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not name.isidentifier() or not name.isascii():
            raise ValueError(f'"{name}" is not a valid variable name')
        if name.startswith(("PG", "LASTGOOD_")):
            raise ValueError(f'"{name}" is always set by lastgood: remove it')
    return names


class Deploy(SettingsTable):
    """Settings of ``lastgood deploy``."""

    time_limit: Duration = Field(
        default=3600.0,
        gt=0,
        description="The time limit of the migration; after it the migration is stopped and rolled back.",
    )
    check: Literal["quick", "full", "none"] = Field(
        default="quick",
        description="How the data is validated before and after the migration: a worse result is rolled back.",
    )
    stop: bool = Field(
        default=False,
        description="Whether the hooks stop the application before the restore point is made, and start it after the "
        "deployment: then a rollback loses no writes.",
    )
    application: bool = Field(
        default=True,
        description="Whether the health check and the smoke hook, if configured, also run after the migration.",
    )
    only_rows: Literal["rollback", "keep"] = Field(
        default="rollback",
        description="What to do when a migration failed and changed rows, but not the schema: either the migration or "
        "the application wrote these rows. Roll back, or keep them.",
    )
    url_variables: Annotated[tuple[str, ...], AfterValidator(_variables)] = Field(
        default=("DATABASE_URL",),
        description="Variables that pass the URL of the database to the migration, in addition to LASTGOOD_DB.",
    )
    wait_for_server: Duration = Field(
        default=300.0, description="How long to wait for a lost server before the rollback fails."
    )


Event = Literal["start", "success", "failure", "undo"]
Kind = Literal["rollback", "undo", "deploy", "drill"]
EVENTS: tuple[Event, ...] = ("start", "success", "failure", "undo")
KINDS: tuple[Kind, ...] = ("rollback", "undo", "deploy", "drill")


def _one_line(name: str) -> str:
    if not name.strip() or name != name.strip() or not name.isprintable():
        raise ValueError("it must be a line of text, without spaces around it")
    if "://" in name:
        raise ValueError("it is an address: put it in a variable (url_variable) or a file (url_file)")
    return name


def _no_address(name: str) -> str:
    if not name.replace("_", "").isalnum() or not name.isascii() or name[0].isdigit():
        raise ValueError("it must be the name of a variable, not the address itself: addresses hold tokens")
    return name


class Recipient(SettingsTable):
    """One recipient of notifications: a channel, a mailbox, a pager, a webhook."""

    name: Annotated[str, AfterValidator(_one_line)] = Field(
        description="The name of the recipient in messages and reports."
    )
    url_variable: Annotated[str, AfterValidator(_no_address)] | None = Field(
        default=None, min_length=1, description="The environment variable that holds its Apprise address."
    )
    url_file: Folder | None = Field(
        default=None, description="Or the file that holds the address, in one line; readable only by its owner."
    )
    on: Annotated[tuple[Event, ...], BeforeValidator(as_list)] = Field(
        default=EVENTS, min_length=1, description="The events to send."
    )
    kinds: Annotated[tuple[Kind, ...], BeforeValidator(as_list)] = Field(
        default=KINDS, min_length=1, description="The procedures whose events to send."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.url_variable is None) == (self.url_file is None):
            raise ValueError("give its address by either url_variable or url_file")
        return self


class Notifications(SettingsTable):
    """Notifications when a run starts, succeeds, fails, or is undone. An unreachable recipient neither stops nor delays
    a run."""

    time_limit: Duration = Field(default=10.0, gt=0, description="The time limit of one message.")
    targets: tuple[Recipient, ...] = Field(default=(), description="The recipients.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [each.name for each in self.targets]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f'two targets are called "{twice}"')
        return self


class Server(SettingsTable):
    """Limits of lastgood on the server."""

    wait_limit: Duration = Field(
        default=15.0,
        gt=0,
        description="How long CREATE DATABASE, DROP DATABASE and other commands on a database may wait for another "
        "session: one that holds a lock, or waits for a synchronous standby that does not respond.",
    )
