"""The targets of notifications, and whether their addresses work: checked without sending, or with a test message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from lastgood.config.tables.application import Event, Kind, Recipient
from lastgood.models import Document, Frozen
from lastgood.notifications.address import Address, Message, NoAddress, address_of
from lastgood.notifications.messenger import Messenger

KINDS_OF_ADDRESS = (
    "See the kinds at https://appriseit.com/services/; for your own webhook use json://HOST/PATH, or jsons://."
)


class ListedTarget(Frozen):
    """One target. ``problem`` is empty when its address is valid and the test message, if any, was accepted.
    ``seconds``: the duration of the test, null without one."""

    name: str
    address_in: str
    on: tuple[Event, ...]
    kinds: tuple[Kind, ...]
    address_is_valid: bool = True
    problem: str = ""
    hint: str = ""
    seconds: float | None = None

    @classmethod
    def of(cls, target: Recipient) -> Self:
        """The target as configured, not yet checked."""
        place = f"variable {target.url_variable}" if target.url_variable is not None else f"{target.url_file}"
        return cls(name=target.name, address_in=place, on=target.on, kinds=target.kinds)


class TargetList(Document):
    """The result of ``lastgood notify``. ``sent``: whether a test message was sent."""

    sent: bool
    targets: tuple[ListedTarget, ...]


def check_targets(
    targets: Sequence[Recipient], limit: float, test: Callable[[str], Message] | None = None
) -> TargetList:
    """Check each of ``targets``; with ``test``, which makes the message for the target it names, by sending it."""
    listed = {each.name: ListedTarget.of(each) for each in targets}
    addresses: list[Address] = []

    def reject(name: str, problem: str, hint: str) -> None:
        listed[name] = listed[name].model_copy(update={"address_is_valid": False, "problem": problem, "hint": hint})

    for target in targets:
        try:
            addresses.append(address_of(target))
        except NoAddress as error:
            reject(target.name, str(error), error.hint)
    messenger = Messenger(addresses, limit)
    for name, problem in messenger.problems().items():
        reject(name, problem, KINDS_OF_ADDRESS)
    if test is not None:
        for each in addresses:
            if listed[each.target.name].address_is_valid:
                messenger.send(test(each.target.name), only=each.target.name)
    for delivery in messenger.finish():
        listed[delivery.target] = listed[delivery.target].model_copy(
            update={"problem": delivery.problem, "seconds": round(delivery.seconds, 3)}
        )
    return TargetList(sent=test is not None, targets=tuple(listed.values()))
