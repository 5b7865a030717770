"""Who is told, and whether the addresses are right: looked at without sending anything, or with a test message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from lastgood.config.tables.notifying import Event, Kind, Recipient
from lastgood.models import Document, Frozen
from lastgood.notifications.address import Address, NoAddress, address_of
from lastgood.notifications.message import Message
from lastgood.notifications.messenger import Messenger

KINDS_OF_ADDRESS = "https://appriseit.com/services/ lists them; a webhook of your own is json://HOST/PATH, or jsons://."


class ListedTarget(Frozen):
    """One target. ``problem`` is empty when its address is right and a test, if there was one, was accepted.
    ``seconds``: how long that took, null without a test."""

    name: str
    address_in: str
    on: tuple[Event, ...]
    kinds: tuple[Kind, ...]
    address_is_good: bool = True
    problem: str = ""
    hint: str = ""
    seconds: float | None = None

    @classmethod
    def of(cls, target: Recipient) -> Self:
        """As the table has it."""
        where = f"variable {target.url_variable}" if target.url_variable is not None else f"{target.url_file}"
        return cls(name=target.name, address_in=where, on=target.on, kinds=target.kinds)


class Listing(Document):
    """What ``lastgood notify`` found. ``sent``: whether a test was sent."""

    sent: bool
    targets: tuple[ListedTarget, ...]


def look(targets: Sequence[Recipient], limit: float, test: Callable[[str], Message] | None = None) -> Listing:
    """Whether each of ``targets`` can be told; by telling it, where ``test`` makes the message for the one it names."""
    found = {each.name: ListedTarget.of(each) for each in targets}
    addresses: list[Address] = []

    def wrong(name: str, problem: str, hint: str) -> None:
        found[name] = found[name].model_copy(update={"address_is_good": False, "problem": problem, "hint": hint})

    for target in targets:
        try:
            addresses.append(address_of(target))
        except NoAddress as error:
            wrong(target.name, str(error), error.hint)
    messenger = Messenger(addresses, limit)
    for name, problem in messenger.problems().items():
        wrong(name, problem, KINDS_OF_ADDRESS)
    if test is not None:
        for each in addresses:
            if found[each.target.name].address_is_good:
                messenger.send(test(each.target.name), only=each.target.name)
    for told in messenger.over():
        found[told.target] = found[told.target].model_copy(
            update={"problem": told.problem, "seconds": round(told.seconds, 3)}
        )
    return Listing(sent=test is not None, targets=tuple(found.values()))
