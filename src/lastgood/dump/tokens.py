"""What the lexer makes of a dump's bytes. Everything is bytes: a dump is never decoded as a whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL command: its text without surrounding white space, comments before it, and the semicolon.

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
    r"""Whole rows of a COPY block, each with its line end; never the ``\.`` line. ``rows`` of them.

    ``offset`` and ``line`` are those of the first row.
    """

    data: bytes
    rows: int
    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class CopyPart:
    """A part of one row that is too long to be held; the ``last`` one has the line end. ``line`` is the row's."""

    data: bytes
    last: bool
    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class CopySpan:
    """The same, passed over: ``size`` bytes, ``rows`` of them; only the first is given, without its line end;
    of a row that is too long to be held, nothing."""

    first: bytes
    size: int
    rows: int
    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class CopyEnd:
    r"""The ``\.`` line was read."""

    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class Noise:
    """What is no part of a dump and stands between its commands: a line that is a message of pg_dump, a byte order
    mark between two texts, and behind the end any line that is not SQL. Line end not included.
    """

    text: bytes
    offset: int
    line: int


Token = Statement | Comment | MetaCommand | CopyStart | CopyData | CopyPart | CopySpan | CopyEnd | Noise
