"""The positions of the rows in a plain dump, recorded when it was made, so that a reading can pass over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from lastgood.models import Frozen


class RowSpan(Frozen):
    """The rows of one COPY: ``size`` bytes from offset ``begin`` on, ``rows`` lines."""

    begin: int
    size: int
    rows: int


@dataclass(frozen=True, slots=True)
class RowIndex:
    """``spans`` by the offsets at which they begin; ``text_from`` gives the dump's text from an offset on.

    An index decides nothing but what is rows: every byte outside of its spans is read, and ruled on, from the file.
    """

    spans: Mapping[int, RowSpan]
    text_from: Callable[[int], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Owed:
    """What is still to be verified of a dump whose rows were passed over: the SHA-256 of the whole file, as it was when
    ``fingerprint`` was taken, before the first byte was read."""

    sha256: str
    fingerprint: tuple[tuple[str, int, int, int], ...]
