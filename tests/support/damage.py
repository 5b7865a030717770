"""What happens to files: cut off, bytes changed, lost or doubled, blocks exchanged or never written."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Damage = tuple[str, Callable[[bytes], bytes]]
"""What was done, to say so when a test fails; and how to do it."""

SECTOR = 512
# What has a meaning to one reader or another.


def cut(at: int) -> Damage:
    return f"cut at {at}", lambda data: data[:at]


def changed(at: int, bit: int) -> Damage:
    return f"bit {bit} of byte {at} changed", lambda data: data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def replaced(at: int, by: bytes) -> Damage:
    return f"byte {at} replaced by {by!r}", lambda data: data[:at] + by + data[at + 1 :]


def lost(at: int) -> Damage:
    return f"byte {at} lost", lambda data: data[:at] + data[at + 1 :]


def doubled(at: int) -> Damage:
    return f"byte {at} doubled", lambda data: data[: at + 1] + data[at:]


def exchanged(one: int, other: int, size: int) -> Damage:
    """Two blocks that do not overlap, the first one first."""

    def exchange(data: bytes) -> bytes:
        first, second = data[one : one + size], data[other : other + size]
        return data[:one] + second + data[one + size : other] + first + data[other + size :]

    return f"{size} bytes at {one} and at {other} exchanged", exchange


def unwritten(at: int, size: int) -> Damage:
    return (
        f"{size} bytes at {at} never written",
        lambda data: data[:at] + bytes(min(size, len(data) - at)) + data[at + size :],
    )


def dropped(at: int, size: int) -> Damage:
    return f"{size} bytes at {at} lost", lambda data: data[:at] + data[at + size :]


def doubled_block(at: int, size: int) -> Damage:
    return f"{size} bytes at {at} doubled", lambda data: data[: at + size] + data[at:]


def without_tab(number: int) -> Damage:
    """The tab of that number is lost, counted around."""

    def lose(data: bytes) -> bytes:
        pieces = data.split(b"\t")
        at = number % max(1, len(pieces) - 1)
        return b"\t".join(pieces[: at + 1]) + b"\t".join([b"", *pieces[at + 1 :]])[1:]

    return f"tab {number} lost", lose


def noise(at: int, size: int, seed: int) -> Damage:
    random_bytes = random.Random(seed).randbytes(size)
    return f"{size} bytes at {at} are noise", lambda data: data[:at] + random_bytes + data[at + size :]


def cuts(length: int, number: int) -> list[Damage]:
    """Cut at ``number`` places, all of them when there are no more; always near both ends."""
    if number >= length:
        return [cut(at) for at in range(length)]
    ends = {*range(20), *range(length - 20, length)}
    return [cut(at) for at in sorted({*ends, *(length * i // number for i in range(number))}) if 0 <= at < length]


def damages(length: int, number: int, seed: int) -> Iterator[Damage]:
    """``number`` of all the other kinds, the same for the same seed."""
    chance = random.Random(seed)
    for _ in range(number):
        at = chance.randrange(length)
        size = chance.choice([16, SECTOR, 4 * SECTOR])
        match chance.randrange(10):
            case 0 | 1:
                yield changed(at, chance.randrange(8))
            case 2:
                yield replaced(
                    at, chance.choice([b"\0", b"\n", b"'", b'"', b"\\", b";", b"$", b"\xff", b"(", b"\\.\n"])
                )
            case 3:
                yield lost(at)
            case 4:
                yield doubled(at)
            case 5 if length > 2 * size:
                one = chance.randrange(length - 2 * size)
                yield exchanged(one, chance.randrange(one + size, length - size + 1), size)
            case 6:
                yield dropped(at, size)
            case 7:
                yield doubled_block(at, size)
            case 8:
                yield without_tab(at)
            case 9:
                yield noise(at, size, at)
            case _:
                yield unwritten(at, size)


class Hangs(AssertionError):
    """It did not end in time."""


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raises Hangs in the main thread when the block takes longer."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hangs(f"no end after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    left = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *left)  # the test's own time limit
        signal.signal(signal.SIGALRM, before)
