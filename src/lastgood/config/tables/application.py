"""The application around the switch: how it is stopped, started, held back, asked and watched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from lastgood.config.tables.kinds import Command, Conninfos, Duration, Table


def _no_password(url: str) -> str:
    if "@" in urlsplit(url).netloc:
        raise ValueError("it contains a user or a password: send them by headers, from a variable")
    return url


class Hooks(Table):
    """The platform's own commands, around a rollback. Each is a list of a program and its arguments, run without a
    shell, with the facts of the run in its environment (LASTGOOD_RUN, LASTGOOD_LIVE, …). A status other than 0 means
    that it failed."""

    maintenance_on: Command | None = Field(
        default=None, description="Shows users that the application is being repaired."
    )
    maintenance_off: Command | None = Field(default=None, description="Takes that back.")
    stop: Command | None = Field(
        default=None, description="Stops what writes: application servers, workers, cron jobs."
    )
    start: Command | None = Field(default=None, description="Starts it again.")
    smoke: Command | None = Field(
        default=None, description="After the switch: tries what users do most; fails when it can't."
    )
    time_limit: Duration = Field(default=60.0, description="How long each of them may take.")


class PgBouncer(Table):
    """PgBouncer, asked through its admin console to hold clients back during the switch: no query of theirs fails."""

    admin: Conninfos = Field(
        default=(), description="How to reach each PgBouncer's console: host, port, user; no password."
    )
    databases: tuple[str, ...] = Field(
        default=(), description="Names in its [databases]; when left out, all that lead to the live database."
    )
    pause_limit: Duration = Field(
        default=10.0,
        description="How long PAUSE waits for transactions to end; the switch ends those that are still open then, "
        "and nobody else's.",
    )


NO_PGBOUNCER = PgBouncer()


class Health(Table):
    """The application's health, asked by HTTP after it was started again."""

    url: Annotated[str, AfterValidator(_no_password)] = Field(
        pattern=r"^https?://", description="What is asked, with GET; no password."
    )
    status: int = Field(default=200, ge=100, le=599, description="The status that it answers with when it is well.")
    body: Mapping[str, Any] | None = Field(
        default=None, alias="json", description="What its JSON answer must contain, at least: { status = 'ok' }."
    )
    headers: Mapping[str, str] = Field(
        default_factory=dict,
        description="Headers to send: each name with the environment variable that holds its value.",
    )
    time_limit: Duration = Field(default=5.0, description="How long one answer may take.")
    deadline: Duration = Field(
        default=60.0, description="How long it is asked again before it counts as failed; 0 asks once."
    )


class Sentry(Table):
    """Where errors of the application are counted."""

    url: str = Field(default="https://sentry.io", pattern=r"^https?://", description="The server.")
    organization: str = Field(description="The organization's slug.")
    project: str = Field(description="The project's slug.")
    token_variable: str = Field(default="SENTRY_AUTH_TOKEN", description="The variable that holds the token.")


class Watch(Table):
    """How long and how closely the server is watched after the switch, against figures taken before. Without this
    table (and without --watch) it is not."""

    length: Duration = Field(default=60.0, description="How long.")
    every: Duration = Field(default=5.0, gt=0, description="How often.")
    factor: float = Field(
        default=3.0, gt=1, description="From how many times the figure before on it is told as worse."
    )
    sentry: Sentry | None = Field(default=None, description="Sentry, to count the application's errors too.")
