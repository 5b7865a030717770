"""The settings of the checklist before a rollback and of the validation of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lastgood.checklist import ITEMS
from lastgood.config.tables.kinds import Duration, Expected, Size, Table


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


class Check(Table):
    """Settings of ``lastgood check``."""

    max_age: Duration | None = Field(
        default=None, description="The age from which the restore point is reported as a warning (24h)."
    )
    free_space: Size | None = Field(
        default=None,
        description="Free space on the server's disk, where lastgood cannot measure it: an attestation of yours.",
    )
    compare_limit: Duration = Field(
        default=10.0,
        description="How long a plan may take to compare the content of tables with the restore point (0: not at all). "
        "The remaining tables are listed as not compared.",
    )
    attested: Annotated[tuple[str, ...], AfterValidator(_answerable)] = Field(
        default=("the team is told",),
        description="Items that only people can confirm, each with their name (--attest).",
    )


class Rule(Table):
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
        default=100.0, ge=0, le=100, description="With of: the rule passes from this percentage of good rows on."
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
            raise ValueError(
                "of counts all rows, among which the query gives the bad ones: leave expect and limits out"
            )
        if self.of is None and self.threshold < 100:
            raise ValueError("threshold needs of, the number of all rows")
        return self


class Polymorphic(Table):
    """A pair of columns that refers to rows of several tables, which no foreign key can check for orphans."""

    table: str = Field(description="The table with the pair of columns, with its schema.")
    type_column: str = Field(description="The column with the type, which selects the table.")
    id_column: str = Field(description="The column with the key of the row.")
    targets: Mapping[str, str] = Field(description="For each value of the type column: the table, as schema.table.")


class Validate(Table):
    """Settings of ``lastgood validate``, in addition to the catalogue."""

    threshold: float = Field(default=85.0, ge=0, le=100, description="Quality in percent below which it is NO-GO.")
    time_limit: Duration = Field(default=120.0, description="The time limit of --quick in total.")
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
