"""The lexer's tokens. All texts are bytes: a dump is never decoded as a whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Statement:
    """An SQL command: its text without surrounding white space, preceding comments, and the semicolon.

    ``offset`` (bytes from 0, decompressed) and ``line`` (from 1) are those of its first byte.
    """

    text: bytes
    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class Comment:
    """A ``--`` or ``/* */`` comment at top level, between commands; line end not included."""

    text: bytes
    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class MetaCommand:
    r"""A psql command at top level (``\restrict KEY``), from the backslash to the end of the line."""

    text: bytes
    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class CopyStart:
    """A ``COPY … FROM stdin`` command; ``CopyData`` and one ``CopyEnd`` follow."""

    text: bytes
    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class CopyData:
    r"""Whole rows of a COPY block, each with its line end, without the ``\.`` line; ``rows`` is their number.

    ``offset`` and ``line`` are those of the first row.
    """

    data: bytes
    rows: int
    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class CopyPart:
    """A part of a row that is too long for memory; the ``last`` part has the line end. ``line`` is the row's."""

    data: bytes
    last: bool
    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class CopySpan:
    """Skipped rows of a COPY block: ``size`` bytes, ``rows`` of them; only the ``first`` row is included, without its
    line end; it is empty for a row that is too long for memory."""

    first: bytes
    size: int
    rows: int
    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class CopyEnd:
    r"""The ``\.`` line."""

    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class Noise:
    """Text between commands that is not part of a dump: a message of pg_dump, a byte order mark between two texts, and
    after the end any line that is not SQL. The line end is not included.
    """

    text: bytes
    offset: int
    line: int


Token = Statement | Comment | MetaCommand | CopyStart | CopyData | CopyPart | CopySpan | CopyEnd | Noise
