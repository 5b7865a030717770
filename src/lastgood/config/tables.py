"""The tables of ``lastgood.toml``: what surrounds a rollback, and is too long for a command line.

Their shape is here and nowhere else: reading the file, ``lastgood config schema`` and the reference are made from these
classes. A description is what the reference says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import psycopg
from psycopg import conninfo
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from lastgood import amounts, secrecy
from lastgood.checklist import ITEMS


def _duration(value: object) -> object:
    return amounts.read_duration(value) if isinstance(value, str) else value


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return amounts.read_size(value)
    except ValueError:
        raise ValueError("write a size like 500MB or 2GB") from None


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _without_password(texts: tuple[str, ...]) -> tuple[str, ...]:
    if any(secrecy.written_passwords(text) for text in texts):
        raise ValueError("it contains a password: put it into ~/.pgpass or the variable PGPASSWORD")
    return texts


def _no_password_in_url(url: str) -> str:
    if "@" in urlsplit(url).netloc:
        raise ValueError("it contains a user or a password: send them by headers, from a variable")
    return url


def _answerable(names: tuple[str, ...]) -> tuple[str, ...]:
    """Each can be named in ``--attest NAME=PERSON``, and stands for itself alone."""
    for number, name in enumerate(names):
        if not name.strip() or name != name.strip() or not name.isprintable():
            raise ValueError("each item must be a line of text, without spaces around it")
        if name in names[:number]:
            raise ValueError(f'it has "{name}" twice')
        if name in {each.name for each in ITEMS}:
            raise ValueError(f'"{name}" is what the checklist measures: call it otherwise')
    return names


def _placed(path: Path, info: ValidationInfo) -> Path:
    """A relative path starts where the file lies."""
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / path.expanduser()


Duration = Annotated[
    float,
    BeforeValidator(_duration),
    Field(ge=0),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": amounts.DURATION_PATTERN}]}
    ),
]
Size = Annotated[
    int,
    BeforeValidator(_size),
    Field(ge=0),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}),
]
Command = Annotated[tuple[str, ...], Field(min_length=1)]


def _one_host_each(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        try:
            found = conninfo.conninfo_to_dict(text)
        except psycopg.ProgrammingError as error:
            raise ValueError(str(error).strip()) from None
        if "," in str(found.get("host") or ""):
            raise ValueError("it names several hosts: give each its own, in a list")
    return texts


Conninfos = Annotated[
    tuple[str, ...],
    BeforeValidator(_listed),
    AfterValidator(_without_password),
    AfterValidator(_one_host_each),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Folder = Annotated[Path, AfterValidator(_placed)]
Expected = int | float | str | bool


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Hooks(_Table):
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


class PgBouncer(_Table):
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


class Health(_Table):
    """The application's health, asked by HTTP after it was started again."""

    url: Annotated[str, AfterValidator(_no_password_in_url)] = Field(
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


class Sentry(_Table):
    """Where errors of the application are counted."""

    url: str = Field(default="https://sentry.io", pattern=r"^https?://", description="The server.")
    organization: str = Field(description="The organization's slug.")
    project: str = Field(description="The project's slug.")
    token_variable: str = Field(default="SENTRY_AUTH_TOKEN", description="The variable that holds the token.")


class Watch(_Table):
    """How long and how closely the server is watched after the switch, against figures taken before. Without this
    table (and without --watch) it is not."""

    length: Duration = Field(default=60.0, description="How long.")
    every: Duration = Field(default=5.0, gt=0, description="How often.")
    factor: float = Field(
        default=3.0, gt=1, description="From how many times the figure before on it is told as worse."
    )
    sentry: Sentry | None = Field(default=None, description="Sentry, to count the application's errors too.")


class Check(_Table):
    """What ``lastgood check`` goes by."""

    max_age: Duration | None = Field(
        default=None, description="How old the restore point may be before it is told as a warning (24h)."
    )
    rehearsed_within: Duration = Field(default=90 * 86400.0, description="How long ago the last rehearsal may be.")
    free_space: Size | None = Field(
        default=None,
        description="Free space on the server's disk, where the server can't tell: who gives it attests it.",
    )
    attested: Annotated[tuple[str, ...], AfterValidator(_answerable)] = Field(
        default=("the team is told",), description="Items that only people can answer for, each with a name (--attest)."
    )


class Rule(_Table):
    """One of your own rules: a query, what it must give, and how much it matters."""

    name: str = Field(min_length=1, description="How it is called in reports.")
    query: str = Field(
        min_length=1, description="One SELECT. By default its rows are the violations, and there must be none."
    )
    expect: Expected | None = Field(
        default=None, description="The one value that the query gives when all is well, instead of no rows."
    )
    at_least: float | None = Field(
        default=None, description="The least value that the query may give, instead of no rows."
    )
    at_most: float | None = Field(
        default=None, description="The greatest value that the query may give, instead of no rows."
    )
    of: str | None = Field(
        default=None,
        description="A query that gives the number of all rows: then quality is reported in percent of them.",
    )
    threshold: float = Field(
        default=100.0, ge=0, le=100, description="With of: the percent of good rows from which on the rule passes."
    )
    severity: Literal["blocker", "warning"] = Field(default="blocker", description="Whether it stops, or only warns.")
    weight: float = Field(default=1.0, gt=0, description="How much it counts in the quality of all.")
    quick: bool = Field(default=True, description="Whether --quick runs it too.")

    @model_validator(mode="after")
    def _one_expectation(self) -> Self:
        limits = self.at_least is not None or self.at_most is not None
        if self.expect is not None and limits:
            raise ValueError("give either expect, or at_least and at_most")
        if self.of is not None and (self.expect is not None or limits):
            raise ValueError(
                "of counts all rows, among which the query gives the bad ones: leave expect and limits out"
            )
        if self.of is None and self.threshold < 100:
            raise ValueError("threshold needs of, the number of all rows")
        return self


class Polymorphic(_Table):
    """A pair of columns that refers to rows of several tables: orphans in it no foreign key can see."""

    table: str = Field(description="The table with the pair, with its schema.")
    type_column: str = Field(description="The column that says which table is meant.")
    id_column: str = Field(description="The column that says which row.")
    targets: Mapping[str, str] = Field(description="For each value of the type column: the table, as schema.table.")


class Validate(_Table):
    """What ``lastgood validate`` goes by, besides the catalogue."""

    threshold: float = Field(default=85.0, ge=0, le=100, description="Quality in percent below which it is NO-GO.")
    time_limit: Duration = Field(default=120.0, description="How long --quick may take in all.")
    guesses: bool = Field(default=True, description="Whether undeclared foreign keys are guessed from names.")
    ignore: tuple[str, ...] = Field(default=(), description="Names of rules that are not run.")
    rules: tuple[Rule, ...] = Field(default=(), description="Your own rules.")
    polymorphic: tuple[Polymorphic, ...] = Field(
        default=(), description="Pairs of columns that refer to several tables."
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [rule.name for rule in self.rules]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f'two rules are called "{twice}"')
        return self


class Audit(_Table):
    """Where the application writes down who changed what: the scope of a loss when there is no backup."""

    table: str = Field(description="The audit table, with its schema.")
    time_column: str | None = Field(default=None, description="When it happened; guessed when left out.")
    table_column: str | None = Field(default=None, description="Which table was changed; guessed when left out.")
    operation_column: str | None = Field(default=None, description="What was done; guessed when left out.")


class Recover(_Table):
    """Where ``lastgood recover`` looks for what is left."""

    folders: tuple[Folder, ...] = Field(
        default=(), description="Other folders with dumps: a mounted disk, a colleague's copy."
    )
    physical: tuple[Folder, ...] = Field(
        default=(), description="Folders with physical backups (pg_basebackup, pgBackRest, …)."
    )
    wal: tuple[Folder, ...] = Field(default=(), description="Folders with archived WAL.")
    platform: Literal["supabase", "rds", "cloudsql", "neon", "heroku"] | None = Field(
        default=None, description="The platform that hosts the server; guessed from the host's name when left out."
    )
    audit: Audit | None = Field(default=None, description="The application's own audit table; guessed when left out.")


class Tables(_Table):
    """All tables of ``lastgood.toml``. ``health`` and ``watch`` are None when the file lacks them."""

    hooks: Hooks = Hooks()
    pgbouncer: PgBouncer = PgBouncer()
    health: Health | None = None
    watch: Watch | None = None
    check: Check = Check()
    validation: Validate = Field(default=Validate(), alias="validate")
    recover: Recover = Recover()
