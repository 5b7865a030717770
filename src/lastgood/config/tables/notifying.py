"""The recipients of notifications. Their addresses are never in the file itself, since they hold tokens."""

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
        raise ValueError("it is an address: put it in a variable (url_variable) or a file (url_file)")
    return name


def _no_address(name: str) -> str:
    if not name.replace("_", "").isalnum() or not name.isascii() or name[0].isdigit():
        raise ValueError("it must be the name of a variable, not the address itself: addresses hold tokens")
    return name


class Recipient(Table):
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
    on: Annotated[tuple[Event, ...], BeforeValidator(listed)] = Field(
        default=EVENTS, min_length=1, description="The events to send."
    )
    kinds: Annotated[tuple[Kind, ...], BeforeValidator(listed)] = Field(
        default=KINDS, min_length=1, description="The procedures whose events to send."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.url_variable is None) == (self.url_file is None):
            raise ValueError("give its address by either url_variable or url_file")
        return self


class Notifications(Table):
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
