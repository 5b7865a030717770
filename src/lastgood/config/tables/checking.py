"""What the checklist before a rollback and the validation of the data go by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lastgood.checklist import ITEMS
from lastgood.config.tables.kinds import Duration, Expected, Size, Table


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


class Check(Table):
    """What ``lastgood check`` goes by."""

    max_age: Duration | None = Field(
        default=None, description="How old the restore point may be before it is told as a warning (24h)."
    )
    free_space: Size | None = Field(
        default=None,
        description="Free space on the server's disk, where the server can't tell: who gives it attests it.",
    )
    compare_limit: Duration = Field(
        default=10.0,
        description="How long a plan may take to compare the content of tables with the restore point (0: not at all). "
        "Tables without time left are listed as not compared.",
    )
    attested: Annotated[tuple[str, ...], AfterValidator(_answerable)] = Field(
        default=("the team is told",), description="Items that only people can answer for, each with a name (--attest)."
    )


class Rule(Table):
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


class Polymorphic(Table):
    """A pair of columns that refers to rows of several tables: orphans in it no foreign key can see."""

    table: str = Field(description="The table with the pair, with its schema.")
    type_column: str = Field(description="The column that says which table is meant.")
    id_column: str = Field(description="The column that says which row.")
    targets: Mapping[str, str] = Field(description="For each value of the type column: the table, as schema.table.")


class Validate(Table):
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
