"""The application around the switch: hooks, PgBouncer, the health check and the watch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from lastgood.config.tables.kinds import Command, Conninfos, Duration, Table


def _no_password(url: str) -> str:
    if "@" in urlsplit(url).netloc:
        raise ValueError("it contains a user or a password: send credentials in headers, from a variable")
    return url


class Hooks(Table):
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


class PgBouncer(Table):
    """PgBouncer, paused through its admin console during the switch, so that no query of its clients fails."""

    admin: Conninfos = Field(
        default=(), description="The connection to each PgBouncer's admin console: host, port, user; no password."
    )
    databases: tuple[str, ...] = Field(
        default=(), description="Names in its [databases]; by default all that lead to the live database."
    )
    pause_limit: Duration = Field(
        default=10.0,
        description="How long PAUSE waits for transactions to end; the switch terminates only the sessions of those "
        "that are still open then.",
    )


NO_PGBOUNCER = PgBouncer()


class Health(Table):
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


class Sentry(Table):
    """Sentry, which counts the application's errors."""

    url: str = Field(default="https://sentry.io", pattern=r"^https?://", description="The server.")
    organization: str = Field(description="The organization's slug.")
    project: str = Field(description="The project's slug.")
    token_variable: str = Field(default="SENTRY_AUTH_TOKEN", description="The variable that holds the token.")


class Watch(Table):
    """The watch of the server after the switch, compared with figures from before. Without this table (and without
    --watch) there is none."""

    length: Duration = Field(default=60.0, description="The length of the watch.")
    every: Duration = Field(default=5.0, gt=0, description="The interval between samples.")
    factor: float = Field(
        default=3.0, gt=1, description="A figure counts as worse from this multiple of its earlier value on."
    )
    sentry: Sentry | None = Field(
        default=None, description="Sentry, to compare the rate of the application's errors too."
    )
