"""An explained log: its errors by kind, the decisive one first, and the resulting state of the database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

import psycopg

from lastgood.command.explain.case import KnownCase, Library, library
from lastgood.command.explain.log import CompletedCommand, LogError, LogReader, lines
from lastgood.command.explain.verdict import LogVerdict, RestoreCourse
from lastgood.models import Frozen
from lastgood.postgres import errors as server_errors

# The maximum number of kinds of unknown errors: a log may have as many as lines.
UNKNOWN_KINDS = 50
SHOWN = 500  # characters of a message
UNKNOWN_CAUSE = "lastgood does not know this error."
OUR_CAUSE = "The first line of the message states the cause."
OUR_DATA = "lastgood leaves the live database as it was, or reports its state. To query the server: lastgood status"
OUR_COMMANDS = ("lastgood status", "lastgood explain   # the newest run of this machine")
UNKNOWN_COMMANDS = (
    "LC_MESSAGES=C psql -v VERBOSITY=verbose …   # in English and with the SQLSTATE, then explain that",
    "# check the server's log of this minute",
)


class ErrorKind(Frozen):
    """Errors of one kind. ``case``: the name of the known error, null if there is none; then ``recognised``: the
    SQLSTATE is known. ``line`` and ``message`` are those of the first error, counted from 1; ``statement``: its
    command, if logged; ``table`` and ``row``: those of a COPY. ``follows``: the kind that caused it; ``minor``: no data
    is lost."""

    case: str | None
    recognised: bool
    title: str
    sqlstate: str | None
    count: int
    line: int
    message: str
    table: str | None
    row: int | None
    statement: str
    cause: str
    data: str
    commands: tuple[str, ...]
    lastgood: str
    follows: str | None
    minor: bool


class Explained(Frozen):
    """The meaning of a text. ``kinds``: the decisive one, then the others by line, then consequences, then minor
    ones."""

    source: str
    lines: int
    errors: int
    recognised: bool
    verdict: LogVerdict | None
    kinds: tuple[ErrorKind, ...]


class _KindCount:
    """The count and the first error of a kind while the log is read."""

    def __init__(self, first: LogError, case: KnownCase | None, follows: str | None) -> None:
        self.first = first
        self.case = case
        self.follows = follows
        self.count = 1


def explain(stream: BinaryIO, source: str, cases: Library | None = None) -> Explained:
    """Explain the errors in ``stream``, reading it to its end in constant memory."""
    library_used = cases or library()
    reader = LogReader(library_used)
    kinds_by_key: dict[str, _KindCount] = {}
    course = RestoreCourse()
    for each in reader.read(lines(stream)):
        if isinstance(each, CompletedCommand):
            course.completed(each)
            continue
        case = library_used.find(each.message, each.sqlstate)
        key = _key(each, case, kinds_by_key)
        if key in kinds_by_key:
            kinds_by_key[key].count += 1
        else:
            kinds_by_key[key] = _KindCount(each, case, _follows(case, kinds_by_key))
        course.failed(each, case)
    kinds = tuple(_kind(each) for each in sorted(kinds_by_key.values(), key=_order))
    return Explained(
        source=source,
        lines=reader.count,
        errors=sum(each.count for each in kinds),
        recognised=any(each.recognised for each in kinds),
        verdict=course.verdict(),
        kinds=kinds,
    )


def explain_text(text: str) -> Explained:
    """Explain a text that was given as an error. Without a recognised pattern, it is one unknown error."""
    known = library()
    if not text.isprintable() and (raw := os.fsencode(text)).decode("utf-8", "replace") != text:
        text = raw.decode("latin-1")  # pasted from a terminal that does not use UTF-8
    explained = explain(BytesIO(text.encode()), "the text", known)
    if explained.kinds:
        return explained
    error = LogError(1, text.strip())
    kind = _kind(_KindCount(error, known.by_name(text), None))
    return explained.model_copy(update={"errors": 1, "recognised": kind.recognised, "kinds": (kind,)})


def _key(error: LogError, case: KnownCase | None, counts: dict[str, _KindCount]) -> str:
    if case is not None:
        return case.slug
    key = f"{error.sqlstate or ''} {'' if error.sqlstate else error.message[:SHOWN]}"
    return key if key in counts or len(counts) < UNKNOWN_KINDS else "others"


def _follows(case: KnownCase | None, counts: dict[str, _KindCount]) -> str | None:
    """Return the title of an earlier kind that caused this one."""
    if case is None:
        return None
    for slug, earlier in counts.items():
        severe = not (earlier.case.minor if earlier.case else False) and earlier.follows is None
        if severe and (slug in case.follows or "*" in case.follows):
            return earlier.case.title if earlier.case is not None else earlier.first.message
    return None


def _order(each: _KindCount) -> tuple[bool, bool, int]:
    return (each.case.minor if each.case is not None else False, each.follows is not None, each.first.line)


def _kind(each: _KindCount) -> ErrorKind:
    error, case = each.first, each.case
    table, row = error.copying or (None, None)
    rule = server_errors.rule(error.sqlstate) if error.sqlstate is not None else None
    known_state = rule is not None and rule.state != ""
    if case is not None:
        title, cause, data = case.title, case.cause, case.data
        commands, reaction = case.commands, case.lastgood
    elif rule is not None and known_state:
        explanation = server_errors.explain(error.sqlstate)
        title, cause, data = _name(error.sqlstate or ""), explanation.cause, "The command had no effect."
        commands, reaction = (explanation.next_command,), explanation.effect
    elif error.program == "lastgood":
        title, cause, data = "A message of lastgood", OUR_CAUSE, error.more.get("state") or OUR_DATA
        commands, reaction = OUR_COMMANDS, error.more.get("next") or "It stops when it cannot verify a result."
    else:
        title, cause = "Unknown error", UNKNOWN_CAUSE
        data = "Unknown. At least this command had no effect."
        commands, reaction = UNKNOWN_COMMANDS, "It stops at such an error, and leaves the live database as it was."
        if error.sqlstate is not None:
            title = _name(error.sqlstate)
    return ErrorKind(
        case=case.slug if case is not None else None,
        recognised=case is not None or known_state or error.program == "lastgood",
        title=title,
        sqlstate=error.sqlstate,
        count=each.count,
        line=error.line,
        message=error.message[:SHOWN],
        table=table,
        row=row,
        statement=error.more.get("STATEMENT", "")[:SHOWN],
        cause=cause,
        data=data,
        commands=commands,
        lastgood=reaction,
        follows=each.follows,
        minor=case.minor if case is not None else False,
    )


def _name(sqlstate: str) -> str:
    """Return PostgreSQL's name of a SQLSTATE as words, from psycopg's class name (``InvalidXmlDocument``)."""
    try:
        name = psycopg.errors.lookup(sqlstate).__name__
    except KeyError:
        return f"SQLSTATE {sqlstate}"
    return "".join(_words(name)).strip().capitalize()


def _words(name: str) -> Iterator[str]:
    for letter in name:
        yield f" {letter.lower()}" if letter.isupper() else letter
