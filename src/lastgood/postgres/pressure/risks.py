"""The risks of a load for this server, reported before it begins: accumulating WAL, full disks, WAL receivers that lag
already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lastgood.postgres.pressure.rules import SLOT_ROOM, Limits, disk_is_full, drop_slot, lag_text
from lastgood.postgres.pressure.wal import Wal, WalReader, read_wal
from lastgood.postgres.server import Connection, only_row
from lastgood.text import units

ALLOW_MORE = "or allow more with --max-wal-lag SIZE"


@dataclass(frozen=True, slots=True)
class Risk:
    """``refusal``: the load would be stopped, or harm production; ``caution``: the operator must know it; ``note``: not
    visible."""

    level: Literal["refusal", "caution", "note"]
    code: str
    text: str
    hint: str = ""


def risks(connection: Connection, expected: int, limits: Limits) -> tuple[Risk, ...]:
    """Risks of writing ``expected`` bytes of WAL now. None on a standby, which writes no WAL."""
    if only_row(connection, "SELECT pg_catalog.pg_is_in_recovery()")[0]:
        return ()
    return tuple(assess(read_wal(connection), expected, limits))


def assess(current: Wal, expected: int, limits: Limits) -> Iterator[Risk]:
    """The rules of ``strain``, applied before the load."""
    for disk in current.disks:
        if text := disk_is_full(disk, limits):
            yield Risk("refusal", "disk_nearly_full", text, "Free disk space there.")
    too_much = expected > limits.max_wal_lag
    if current.archive_trouble:
        yield Risk(
            "refusal" if too_much else "caution",
            "archiving_fails",
            f"{current.archive_trouble}; about {units.size(expected)} of WAL would accumulate in addition",
            f"Fix the archiving (see the server's log for its error){', ' + ALLOW_MORE if too_much else ''}.",
        )
    for reader in current.readers:
        if reader.kind == "slot":
            yield from _slot(reader, current.room_known, expected, limits)
        elif reader.behind > limits.max_wal_lag:
            yield Risk(
                "caution",
                "late_reader_of_wal",
                f"{lag_text(reader)}, before the load begins",
                "Check whether it catches up.",
            )
    if current.hidden:
        yield Risk(
            "note",
            "wal_unseen",
            f"not monitored during the load, because it is not visible from here: {', '.join(current.hidden)}",
        )


def _slot(slot: WalReader, room_known: bool, expected: int, limits: Limits) -> Iterator[Risk]:
    if slot.left is not None and slot.left - expected < SLOT_ROOM:
        yield Risk(
            "caution" if slot.active else "refusal",
            "slot_at_risk",
            f"{lag_text(slot)}, and the server invalidates it after {units.size(max(0, slot.left))} more "
            f"(max_slot_wal_keep_size); about {units.size(expected)} would be written",
            "" if slot.active else f"Let its consumer catch up; if it is no longer needed: {drop_slot(slot.name)}",
        )
    elif not slot.active:
        stops = expected > limits.max_wal_lag and not room_known
        unseen = ", and the free space for WAL is not visible" if stops else ""
        yield Risk(
            "refusal" if stops else "caution",
            "idle_slot",
            f"{lag_text(slot)} and has no consumer: the server keeps all WAL for it, about {units.size(expected)} more"
            + unseen,
            f"If it is no longer needed: {drop_slot(slot.name)}{'; ' + ALLOW_MORE if stops else ''}",
        )
    elif slot.behind > limits.max_wal_lag:
        yield Risk(
            "caution", "late_reader_of_wal", f"{lag_text(slot)}, before the load begins", "Check whether it catches up."
        )
