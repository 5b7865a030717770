"""The positions of the rows in a plain dump, recorded when it was made, so that a read can skip them."""

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

    An index only marks rows: every byte outside its spans is read from the file and ruled on.
    """

    spans: Mapping[int, RowSpan]
    text_from: Callable[[int], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class PendingDigest:
    """The digest that a load must verify, because the rows of the dump were skipped: the SHA-256 of the whole file in
    the state of ``fingerprint``, which was taken before the first byte was read."""

    sha256: str
    fingerprint: tuple[tuple[str, int, int, int], ...]
