"""What a load would put at risk on this server, told before it begins: WAL that piles up, disks without room, readers
of WAL that are late already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lastgood.postgres.server import Connection
from lastgood.postgres.strain import SLOT_ROOM, Limits, disk_is_full, drop_slot, words
from lastgood.postgres.wal import Reader, Wal, wal
from lastgood.text import units

ALLOW_MORE = "or allow more with --max-wal-lag SIZE"


@dataclass(frozen=True, slots=True)
class Risk:
    """``refusal``: the load would be stopped, or production be harmed; ``caution``: to be known; ``note``: unseen."""

    level: Literal["refusal", "caution", "note"]
    code: str
    text: str
    hint: str = ""


def risks(connection: Connection, expected: int, limits: Limits) -> tuple[Risk, ...]:
    """What speaks against writing ``expected`` bytes of WAL now. Nothing on a standby, which writes none."""
    if (connection.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone() or (True,))[0]:
        return ()
    return tuple(judge(wal(connection), expected, limits))


def judge(found: Wal, expected: int, limits: Limits) -> Iterator[Risk]:
    """The rules alone: those of ``strain``, looked at from before."""
    for disk in found.disks:
        if text := disk_is_full(disk, limits):
            yield Risk("refusal", "disk_nearly_full", text, "Make room there.")
    too_much = expected > limits.max_wal_lag
    if found.archive_trouble:
        yield Risk(
            "refusal" if too_much else "caution",
            "archiving_fails",
            f"{found.archive_trouble}; about {units.size(expected)} of WAL would pile up besides",
            f"Mend the archiving (the server's log says what fails){', ' + ALLOW_MORE if too_much else ''}.",
        )
    for reader in found.readers:
        if reader.kind == "slot":
            yield from _slot(reader, found.room_known, expected, limits)
        elif reader.behind > limits.max_wal_lag:
            yield Risk(
                "caution", "late_reader_of_wal", f"{words(reader)}, before anything is loaded", "See whether it moves."
            )
    if found.hidden:
        yield Risk(
            "note",
            "wal_unseen",
            f"not watched while loading, because it can't be seen from here: {', '.join(found.hidden)}",
        )


def _slot(slot: Reader, room_known: bool, expected: int, limits: Limits) -> Iterator[Risk]:
    if slot.left is not None and slot.left - expected < SLOT_ROOM:
        yield Risk(
            "caution" if slot.active else "refusal",
            "slot_at_risk",
            f"{words(slot)}, and the server gives it up after {units.size(max(0, slot.left))} more "
            f"(max_slot_wal_keep_size); about {units.size(expected)} would be written",
            "" if slot.active else f"Let its reader catch up; if nobody needs it any more: {drop_slot(slot.name)}",
        )
    elif not slot.active:
        stops = expected > limits.max_wal_lag and not room_known
        unseen = ", and how much room is left for WAL can't be seen" if stops else ""
        yield Risk(
            "refusal" if stops else "caution",
            "idle_slot",
            f"{words(slot)} and nobody reads it: the server keeps all WAL for it, about {units.size(expected)} more"
            + unseen,
            f"If nobody needs it any more: {drop_slot(slot.name)}{'; ' + ALLOW_MORE if stops else ''}",
        )
    elif slot.behind > limits.max_wal_lag:
        yield Risk(
            "caution", "late_reader_of_wal", f"{words(slot)}, before anything is loaded", "See whether it moves."
        )
