"""Is a restore point whole, and is it what was written down when it was made? It is read from end to end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from lastgood.dump.formats import DumpSource
from lastgood.dump.summary import DumpSummary
from lastgood.errors import BadPoint, Corrupt, Incomplete, Unsafe
from lastgood.events import Emit, silent
from lastgood.facts import Facts
from lastgood.facts.compare import compare
from lastgood.facts.of_dump import facts_of_dump
from lastgood.points.point import RestorePoint, source_of

State = Literal["valid", "incomplete", "corrupt", "unsafe", "differs", "unusable"]


class Differs(Corrupt):
    """A restore point is whole, and is not what its manifest says; ``facts`` is what it really contains."""

    code = "point_differs"

    def __init__(self, message: str, *, hint: str, facts: Facts) -> None:
        super().__init__(message, hint=hint)
        self.facts = facts


_STATES: tuple[tuple[type[BadPoint], State], ...] = (
    (Differs, "differs"),
    (Incomplete, "incomplete"),
    (Corrupt, "corrupt"),
    (Unsafe, "unsafe"),
)


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


@dataclass(frozen=True, slots=True)
class Whole:
    """A restore point that was read from end to end and is what it should be.

    ``facts`` are those of its manifest, where it has one: the same content, and definitions that a dump does not tell.
    """

    point: RestorePoint
    source: DumpSource
    facts: Facts
    summary: DumpSummary


def read_whole(
    point: RestorePoint,
    *,
    database: str | None = None,
    skim: bool = False,
    stage: str = "verify",
    emit: Emit = silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> Whole:
    """Reads the point to its end and compares it with its manifest. ``database`` chooses one from a cluster dump.
    ``skim``: its rows are only counted; where there is a manifest, its SHA-256 vouches for them.

    Raises BadPoint, Refused when a program to read it with is missing, Interrupted when ``cancelled`` turned true.
    """
    source = source_of(point)
    vouched = point.manifest is not None and not point.problem
    with ThreadPoolExecutor(1, thread_name_prefix="lastgood-sha256") as pool:
        digest = pool.submit(source.sha256) if skim and vouched else None
        facts, summary = facts_of_dump(
            source,
            database=database,
            time_zone=point.time_zone,
            skim=skim,
            emit=emit,
            cancelled=cancelled,
            stage=stage,
            measure=lambda: (source.position, source.size),
        )
        if digest is not None and point.manifest is not None and digest.result() == point.manifest.sha256:
            return Whole(point, source, point.manifest.facts, summary)
    if digest is not None:
        # Something is wrong with it: what, only its rows can tell.
        return read_whole(point, database=database, stage=stage, emit=emit, cancelled=cancelled)
    _check(point, facts, source)
    return Whole(point, source, point.manifest.facts if point.manifest is not None else facts, summary)


def verify(point: RestorePoint, *, emit: Emit = silent, cancelled: Callable[[], bool] = lambda: False) -> Verdict:
    """Reads the whole point: its end, its encoding, its statements, and with a manifest its SHA-256 and its facts.

    Raises Refused when a program to read it with is missing, Interrupted when ``cancelled`` turned true.
    """
    try:
        whole = read_whole(point, emit=emit, cancelled=cancelled)
    except BadPoint as error:
        state: State = next((name for kind, name in _STATES if isinstance(error, kind)), "unusable")
        facts = error.facts if isinstance(error, Differs) else None
        return Verdict(state, str(error), error.hint, error.line, error.offset, facts)
    return Verdict("valid", facts=whole.facts)


def _check(point: RestorePoint, facts: Facts, source: DumpSource) -> None:
    """Are ``facts``, just read from ``source``, and its SHA-256 what the manifest says? Raises Differs if not."""
    if point.problem:
        raise Differs(point.problem, hint="Choose another restore point: lastgood points.", facts=facts)
    if point.manifest is None:
        return
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
            facts=facts,
        )
    if source.sha256() != point.manifest.sha256:
        raise Differs(
            f'cannot use "{point.path}": its bytes are not those that were written when it was made (SHA-256)',
            hint="The file was changed, though not its rows. Choose another restore point: lastgood points.",
            facts=facts,
        )
