"""Who is told of a run, and where the addresses stand: never in the file itself, since they hold tokens."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lastgood.config.tables.kinds import Duration, Folder, Table, listed

Event = Literal["start", "success", "failure", "undo"]
Kind = Literal["rollback", "undo", "deploy", "drill"]
EVENTS: tuple[Event, ...] = ("start", "success", "failure", "undo")
KINDS: tuple[Kind, ...] = ("rollback", "undo", "deploy", "drill")


def _one_line(name: str) -> str:
    if not name.strip() or name != name.strip() or not name.isprintable():
        raise ValueError("it must be a line of text, without spaces around it")
    if "://" in name:
        raise ValueError("it is an address: that goes into a variable (url_variable) or a file (url_file)")
    return name


def _no_address(name: str) -> str:
    if not name.replace("_", "").isalnum() or not name.isascii() or name[0].isdigit():
        raise ValueError("it must be the name of a variable, and not the address itself: addresses hold tokens")
    return name


class Recipient(Table):
    """One place that is told: a channel, a mailbox, a pager, a webhook."""

    name: Annotated[str, AfterValidator(_one_line)] = Field(description="How it is called in messages and reports.")
    url_variable: Annotated[str, AfterValidator(_no_address)] | None = Field(
        default=None, min_length=1, description="The environment variable that holds its address, as Apprise writes it."
    )
    url_file: Folder | None = Field(
        default=None, description="Or the file that holds it, in one line; only its owner may read it."
    )
    on: Annotated[tuple[Event, ...], BeforeValidator(listed)] = Field(
        default=EVENTS, min_length=1, description="What it is told of."
    )
    kinds: Annotated[tuple[Kind, ...], BeforeValidator(listed)] = Field(
        default=KINDS, min_length=1, description="Of which procedures."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.url_variable is None) == (self.url_file is None):
            raise ValueError("say where its address stands: either url_variable or url_file")
        return self


class Notifications(Table):
    """Who is told when a run begins, ends well, fails, or is taken back. Nobody who can't be reached stops or delays
    a run."""

    time_limit: Duration = Field(default=10.0, gt=0, description="How long one message may take.")
    targets: tuple[Recipient, ...] = Field(default=(), description="Who is told.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [each.name for each in self.targets]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f'two targets are called "{twice}"')
        return self
