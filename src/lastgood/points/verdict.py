"""Is a restore point whole, and is it what was written down when it was made? It is read from end to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lastgood.dump.formats import DumpSource
from lastgood.errors import BadPoint, Corrupt, Incomplete, Unsafe
from lastgood.events import Emit, silent
from lastgood.facts import Facts
from lastgood.facts.compare import compare
from lastgood.facts.of_dump import facts_of_dump
from lastgood.points.point import RestorePoint, source_of

State = Literal["valid", "incomplete", "corrupt", "unsafe", "differs", "unusable"]
_STATES: tuple[tuple[type[BadPoint], State], ...] = (
    (Incomplete, "incomplete"),
    (Corrupt, "corrupt"),
    (Unsafe, "unsafe"),
)


class Differs(Corrupt):
    """A restore point is whole, and is not what its manifest says."""

    code = "point_differs"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What reading a restore point to its end showed.

    ``message`` and ``hint`` say what is wrong, ``line`` (from 1) and ``offset`` (bytes of the decompressed text, from
    0) where, as far as known. ``facts`` is what it contains, None unless it could be read to its end.
    """

    state: State
    message: str = ""
    hint: str = ""
    line: int | None = None
    offset: int | None = None
    facts: Facts | None = None

    @property
    def valid(self) -> bool:
        """Can the live database be put back to it?"""
        return self.state == "valid"


def verify(point: RestorePoint, *, emit: Emit = silent, cancelled: Callable[[], bool] = lambda: False) -> Verdict:
    """Reads the whole point: its end, its encoding, its statements, and with a manifest its SHA-256 and its facts.

    Raises Refused when a program to read it with is missing, Interrupted when ``cancelled`` turned true.
    """
    facts: Facts | None = None
    try:
        source = source_of(point)
        facts, _ = facts_of_dump(source, time_zone=point.time_zone, emit=emit, cancelled=cancelled, stage="verify")
        checked(point, facts, source)
    except BadPoint as error:
        state: State = "unusable"
        if isinstance(error, Differs):
            state = "differs"
        else:
            facts = None
            state = next((name for kind, name in _STATES if isinstance(error, kind)), "unusable")
        return Verdict(state, str(error), error.hint, error.line, error.offset, facts)
    return Verdict("valid", facts=facts)


def checked(point: RestorePoint, facts: Facts, source: DumpSource) -> RestorePoint:
    """The point itself, when ``facts``, just read from ``source``, and its SHA-256 are what its manifest says; always
    for a foreign point. Raises BadPoint: a damaged manifest or file, or one that holds something else.
    """
    if point.problem:
        raise Differs(point.problem, hint="Choose another restore point: lastgood points.")
    if point.manifest is None:
        return point
    # The content first: it says what is different, a SHA-256 only that something is.
    comparison = compare(point.manifest.facts, facts)
    if comparison.differences:
        first = comparison.differences[0]
        more = len(comparison.differences) - 1
        raise Differs(
            f'cannot use "{point.path}": it is not what was written down when it was made: '
            f"{first.kind} of {first.what}: {first.expected} expected, {first.found} found"
            + (f", and {more} more" if more else ""),
            hint="The file was changed. Choose another restore point: lastgood points.",
        )
    if source.sha256() != point.manifest.sha256:
        raise Differs(
            f'cannot use "{point.path}": its bytes are not those that were written when it was made (SHA-256)',
            hint="The file was changed, though not its rows. Choose another restore point: lastgood points.",
        )
    return point
