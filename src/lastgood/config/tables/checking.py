"""The tables of lastgood.toml for the checklist, validation, the guide, records, recovery, drills and retention."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, model_validator

from lastgood.checklist import ITEMS
from lastgood.config.tables.kinds import Duration, Expected, Folder, SettingsTable, Size


def _answerable(names: tuple[str, ...]) -> tuple[str, ...]:
    """Check that each name works in ``--attest NAME=PERSON`` and is unique."""
    for number, name in enumerate(names):
        if not name.strip() or name != name.strip() or not name.isprintable():
            raise ValueError("each item must be a line of text, without spaces around it")
        if name in names[:number]:
            raise ValueError(f'it contains "{name}" twice')
        if name in {each.name for each in ITEMS}:
            raise ValueError(f'"{name}" is an item that lastgood measures: choose another name')
    return names


class CheckSettings(SettingsTable):
    """Settings of ``lastgood check``."""

    max_age: Duration | None = Field(
        default=None, description="The age above which a restore point causes a warning (24h)."
    )
    free_space: Size | None = Field(
        default=None,
        description="Free space on the server's disk, confirmed by you, where lastgood cannot measure it.",
    )
    compare_limit: Duration = Field(
        default=60.0,
        description="How long a plan may take to count the rows that differ from the restore point (0: nothing is "
        "compared). Which tables differ is found in any case; those that were not counted in time are listed.",
    )
    attested: Annotated[tuple[str, ...], AfterValidator(_answerable)] = Field(
        default=("the team is informed",),
        description="Items that only people can confirm, each with their name (--attest).",
    )


class OwnRule(SettingsTable):
    """One of your own rules: a query, its expected result, and its severity."""

    name: str = Field(min_length=1, description="The name of the rule in reports.")
    query: str = Field(
        min_length=1, description="One SELECT. By default its rows are the violations, and there must be none."
    )
    expect: Expected | None = Field(
        default=None, description="The one value that the query must return, instead of no rows."
    )
    at_least: float | None = Field(
        default=None, description="The smallest value that the query may return, instead of no rows."
    )
    at_most: float | None = Field(
        default=None, description="The largest value that the query may return, instead of no rows."
    )
    of: str | None = Field(
        default=None,
        description="A query that returns the number of all rows: quality is then reported in percent of them.",
    )
    threshold: float = Field(
        default=100.0,
        ge=0,
        le=100,
        description="With of: the rule passes if at least this percentage of rows is valid.",
    )
    severity: Literal["blocker", "warning"] = Field(
        default="blocker", description="A blocker causes a NO-GO, a warning does not."
    )
    weight: float = Field(default=1.0, gt=0, description="The weight of the rule in the overall quality.")
    quick: bool = Field(default=True, description="Whether --quick runs it too.")

    @model_validator(mode="after")
    def _one_expectation(self) -> Self:
        limits = self.at_least is not None or self.at_most is not None
        if self.expect is not None and limits:
            raise ValueError("give either expect, or at_least and at_most")
        if self.of is not None and (self.expect is not None or limits):
            raise ValueError('"of" cannot be combined with expect, at_least or at_most')
        if self.of is None and self.threshold < 100:
            raise ValueError('"threshold" requires "of"')
        return self


class Polymorphic(SettingsTable):
    """A pair of columns that refers to rows of several tables, which no foreign key can check for orphans."""

    table: str = Field(description="The table with the pair of columns, with its schema.")
    type_column: str = Field(description="The column with the type, which selects the table.")
    id_column: str = Field(description="The column with the key of the row.")
    targets: Mapping[str, str] = Field(description="For each value of the type column: the table, as schema.table.")


class Validate(SettingsTable):
    """Settings of ``lastgood validate``, in addition to the catalogue."""

    threshold: float = Field(default=85.0, ge=0, le=100, description="Quality in percent below which it is NO-GO.")
    time_limit: Duration = Field(default=120.0, description="The time limit of --quick in total.")
    guesses: bool = Field(default=True, description="Whether undeclared foreign keys are guessed from names.")
    ignore: tuple[str, ...] = Field(default=(), description="Names of rules that are not run.")
    rules: tuple[OwnRule, ...] = Field(default=(), description="Your own rules.")
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


class Guide(SettingsTable):
    """Additional content of ``lastgood guide``: the owner of the guide and its next review."""

    owner: str = Field(default="", description="The person or team who maintains the guide.")
    review_every: Duration = Field(
        default=90 * 86400.0, description="How long after it was written the next review is due."
    )
    related: tuple[str, ...] = Field(
        default=(), description="Related documents: a title with an address, or an address alone."
    )


def _lines(items: tuple[str, ...]) -> tuple[str, ...]:
    for number, item in enumerate(items):
        if not item.strip() or item != item.strip() or not item.isprintable():
            raise ValueError("each item must be a line of text, without spaces around it")
        if item in items[:number]:
            raise ValueError(f'it contains "{item}" twice')
    return items


class RecordSettings(SettingsTable):
    """Tasks that ``lastgood report`` and ``lastgood status`` require after a rollback."""

    post_mortem_within: Duration = Field(
        default=48 * 3600.0, description="How long after a rollback its post-mortem is due; 0 requires none."
    )
    checklist: Annotated[tuple[str, ...], AfterValidator(_lines)] = Field(
        default=(),
        description="Your own items for the checklist after a rollback, completed with --done ITEM --by NAME.",
    )


class Audit(SettingsTable):
    """The application's audit table. It shows the scope of a loss when there is no backup, and who wrote a row for
    ``lastgood salvage apply --by-user``."""

    table: str = Field(description="The audit table, with its schema.")
    time_column: str | None = Field(
        default=None, description="The column with the time of a change; guessed by default."
    )
    table_column: str | None = Field(default=None, description="The column with the changed table; guessed by default.")
    operation_column: str | None = Field(default=None, description="The column with the operation; guessed by default.")
    user_column: str | None = Field(
        default=None, description="The column with the user who made a change; guessed by default."
    )
    transaction_column: str | None = Field(
        default=None, description="The column with the number of the transaction; guessed by default."
    )
    row_columns: tuple[str, ...] = Field(
        default=(),
        description="The columns with the changed row as json, jsonb or hstore, or with its key; the first one with a "
        "value counts. Guessed by default.",
    )


class Recover(SettingsTable):
    """Where ``lastgood recover`` searches."""

    folders: tuple[Folder, ...] = Field(
        default=(), description="Other folders with dumps: a mounted disk, a colleague's copy."
    )
    physical: tuple[Folder, ...] = Field(
        default=(), description="Folders with physical backups (pg_basebackup, pgBackRest, …)."
    )
    wal: tuple[Folder, ...] = Field(default=(), description="Folders with archived WAL.")
    platform: Literal["supabase", "rds", "cloudsql", "neon", "heroku"] | None = Field(
        default=None, description="The platform that hosts the server; guessed from the host's name by default."
    )
    audit: Audit | None = Field(default=None, description="The application's own audit table; guessed by default.")


class Diff(SettingsTable):
    """Output of ``lastgood diff``."""

    masked: tuple[str, ...] = Field(
        default=(),
        description='Columns whose values are never shown or written, as "table.column" or "schema.table.column"; * '
        'stands for any text ("*.email").',
    )

    def hidden(self, schema: str, table: str, columns: Iterable[str]) -> frozenset[str]:
        """The columns of a table whose values are not shown."""
        return frozenset(
            each
            for each in columns
            if any(
                fnmatchcase(name, pattern)
                for pattern in self.masked
                for name in (f"{table}.{each}", f"{schema}.{table}.{each}")
            )
        )


class Loss(SettingsTable):
    """What a plan and a report point out beside the numbers of rows. Each key replaces its default; ``[]`` turns it
    off. Names of tables are patterns, "table" or "schema.table", in any case; * stands for any text."""

    people: tuple[str, ...] = Field(
        default=("*user", "*users", "*account", "*accounts", "*customer", "*customers", "*contact", "*contacts",
                 "*member", "*members", "*person", "*persons", "*people", "*patient*", "*subscriber*", "*profile",
                 "*profiles", "*identity", "*identities"),
        description="Tables with people: rows deleted since the restore point return, also of those who asked for it.",
    )  # fmt: skip
    consents: tuple[str, ...] = Field(
        default=("*consent*", "*opt_in*", "*opt_out*", "*unsubscri*", "*suppress*", "*do_not_*", "*blocklist*",
                 "*newsletter*"),
        description="Tables with consents: one that was revoked since the restore point is valid again.",
    )  # fmt: skip
    access: tuple[str, ...] = Field(
        default=("*session", "*sessions", "*token", "*tokens", "*api_key*", "*invitation*", "*password_reset*",
                 "*credential*", "*mfa_*", "*one_time_*", "*permission*", "*user_role*"),
        description="Tables with sessions, tokens and rights of users: those that were ended are valid again.",
    )  # fmt: skip
    queues: tuple[str, ...] = Field(
        default=("*outbox*", "*queue*", "*job", "*jobs", "*scheduled_message*", "*pending_*", "*email_log*",
                 "*deliveries", "*webhook*"),
        description="Tables with work: what was done since the restore point is done again.",
    )  # fmt: skip
    schedules: tuple[str, ...] = Field(
        default=("cron.job", "*schedule", "*schedules", "*periodic_task*", "*crontab*"),
        description="Tables with scheduled jobs: those that were removed or changed run again.",
    )
    references: tuple[str, ...] = Field(
        default=("stripe_*", "paypal_*", "adyen_*", "mollie_*", "braintree_*", "*payment_intent*", "*payment_id",
                 "*charge_id", "*refund_id", "*payout_id", "*transaction_id", "*message_id", "*message_sid", "*sms_id",
                 "*mail_id", "*external_id", "*remote_id", "*invoice_number", "*tracking_number", "*shipment_id"),
        description="Columns with names of things in other systems, which still know them after a rollback: "
        '"column", "table.column" or "schema.table.column".',
    )  # fmt: skip


class Drill(SettingsTable):
    """Rehearsals of the whole procedure on a scratch server: ``lastgood drill``."""

    every: Duration = Field(
        default=90 * 86400.0,
        description="The interval between drills, used by lastgood check, status and drill --due.",
    )
    folder: Folder | None = Field(
        default=None,
        description="The folder for the scratch server's data, on a disk with room for two copies of the database; by "
        "default the folder for temporary files.",
    )


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, ZoneInfoNotFoundError):  # a wrong name may be that of a folder
        raise ValueError('unknown time zone: write it like "Europe/Berlin", or "UTC"') from None
    return name


class Keep(SettingsTable):
    """How many to keep: the newest of each hour, day, week, month or year, for the given number of periods; empty
    periods do not count. An item is kept if any rule keeps it."""

    last: int = Field(default=0, ge=0, description="The number of newest ones; a rule with 0 keeps none.")
    hourly: int = Field(default=0, ge=0, description="The number of hours, with the newest of each.")
    daily: int = Field(default=0, ge=0, description="The number of days, with the newest of each.")
    weekly: int = Field(default=0, ge=0, description="The number of weeks, from Monday on, with the newest of each.")
    monthly: int = Field(default=0, ge=0, description="The number of months, with the newest of each.")
    yearly: int = Field(default=0, ge=0, description="The number of years, with the newest of each.")
    within: Duration | None = Field(
        default=None,
        gt=0,
        description="All made within this time before the newest restore point; for kept databases, before now.",
    )

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        if not any((self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly, self.within)):
            raise ValueError("it keeps nothing: give numbers, as in { last = 3, daily = 7 }")
        return self


class Retention(SettingsTable):
    """The default retention of ``lastgood prune`` and ``lastgood backup --prune``. Items that are still needed are kept
    in any case."""

    keep: Keep | None = Field(default=None, description="Restore points; without this key all are kept.")
    kept: Keep | None = Field(default=None, description="Kept databases; without this key all are kept.")
    foreign: bool = Field(
        default=False, description="Whether this also removes restore points that lastgood did not make."
    )
    timezone: Annotated[str, AfterValidator(_known_zone)] = Field(
        default="UTC", description="The time zone of hours, days and weeks."
    )
