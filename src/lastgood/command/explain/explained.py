"""A log explained: its errors by kind, the one that matters first, and what became of the database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

import psycopg

from lastgood.command.explain.case import Case, Library, library
from lastgood.command.explain.log import Done, Reader, Said, lines
from lastgood.command.explain.verdict import Course, Verdict
from lastgood.models import Frozen
from lastgood.postgres import errors as server_errors

# How many kinds of unknown errors are told apart: a log may have as many as lines.
UNKNOWN_KINDS = 50
SHOWN = 500  # characters of a message
UNKNOWN_CAUSE = "lastgood does not know this error."
OUR_CAUSE = "The first line of the message states the cause."
OUR_DATA = "lastgood leaves the live database as it was, or reports its state. lastgood status asks the server."
OUR_COMMANDS = ("lastgood status", "lastgood explain   # the newest run of this machine")
UNKNOWN_COMMANDS = (
    "LC_MESSAGES=C psql -v VERBOSITY=verbose …   # in English and with the SQLSTATE, then explain that",
    "# check the server's log of this minute",
)


class Kind(Frozen):
    """Errors of one kind. ``case`` is its name in our collection, null where the collection has none: then
    ``recognised`` tells whether the SQLSTATE alone said something. ``line`` is the first one's, from 1; ``message``
    its words, ``statement`` the command where the log has it, ``table`` and ``row`` those of a COPY. ``follows``
    names the kind that it is a consequence of; ``minor``: nothing is lost by it."""

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
    """What a text means. ``kinds``: the one that matters first, then the others by their line, then consequences, then
    what is minor."""

    source: str
    lines: int
    errors: int
    recognised: bool
    verdict: Verdict | None
    kinds: tuple[Kind, ...]


class _Counted:
    """What is kept of a kind while the log is read."""

    def __init__(self, first: Said, case: Case | None, follows: str | None) -> None:
        self.first = first
        self.case = case
        self.follows = follows
        self.count = 1


def explain(stream: BinaryIO, source: str, cases: Library | None = None) -> Explained:
    """Reads ``stream`` to its end; memory does not grow with it."""
    known = cases or library()
    reader = Reader(known)
    found: dict[str, _Counted] = {}
    course = Course()
    for each in reader.read(lines(stream)):
        if isinstance(each, Done):
            course.done(each)
            continue
        case = known.find(each.message, each.sqlstate)
        key = _key(each, case, found)
        if key in found:
            found[key].count += 1
        else:
            found[key] = _Counted(each, case, _follows(case, found))
        course.failed(each, case)
    kinds = tuple(_kind(each) for each in sorted(found.values(), key=_order))
    return Explained(
        source=source,
        lines=reader.count,
        errors=sum(each.count for each in kinds),
        recognised=any(each.recognised for each in kinds),
        verdict=course.verdict(),
        kinds=kinds,
    )


def explain_text(text: str, cases: Library | None = None) -> Explained:
    """The same for what somebody says is an error: then it is one, known or not."""
    known = cases or library()
    if not text.isprintable() and (given := os.fsencode(text)).decode("utf-8", "replace") != text:
        text = given.decode("latin-1")  # pasted out of a terminal that is not in UTF-8
    found = explain(BytesIO(text.encode()), "the text", known)
    if found.kinds:
        return found
    said = Said(1, text.strip())
    kind = _kind(_Counted(said, known.by_name(text), None))
    return found.model_copy(update={"errors": 1, "recognised": kind.recognised, "kinds": (kind,)})


def _key(said: Said, case: Case | None, found: dict[str, _Counted]) -> str:
    if case is not None:
        return case.slug
    key = f"{said.sqlstate or ''} {'' if said.sqlstate else said.message[:SHOWN]}"
    return key if key in found or len(found) < UNKNOWN_KINDS else "others"


def _follows(case: Case | None, found: dict[str, _Counted]) -> str | None:
    """The title of an earlier kind that explains this one."""
    if case is None:
        return None
    for slug, earlier in found.items():
        severe = not (earlier.case.minor if earlier.case else False) and earlier.follows is None
        if severe and (slug in case.follows or "*" in case.follows):
            return earlier.case.title if earlier.case is not None else earlier.first.message
    return None


def _order(each: _Counted) -> tuple[bool, bool, int]:
    return (each.case.minor if each.case is not None else False, each.follows is not None, each.first.line)


def _kind(each: _Counted) -> Kind:
    said, case = each.first, each.case
    table, row = said.copying or (None, None)
    rule = server_errors.rule(said.sqlstate) if said.sqlstate is not None else None
    known_state = rule is not None and rule.state != ""
    if case is not None:
        title, cause, data = case.title, case.cause, case.data
        commands, ours = case.commands, case.lastgood
    elif rule is not None and known_state:
        explanation = server_errors.explain(said.sqlstate)
        title, cause, data = _name(said.sqlstate or ""), explanation.cause, "The command had no effect."
        commands, ours = (explanation.next_command,), explanation.effect
    elif said.program == "lastgood":
        title, cause, data = "A message of lastgood", OUR_CAUSE, said.more.get("state") or OUR_DATA
        commands, ours = OUR_COMMANDS, said.more.get("next") or "It stops when it is not sure."
    else:
        title, cause = "Not known", UNKNOWN_CAUSE
        data = "Unknown. At least this command had no effect."
        commands, ours = UNKNOWN_COMMANDS, "It stops at such an error, and leaves the live database as it was."
        if said.sqlstate is not None:
            title = _name(said.sqlstate)
    return Kind(
        case=case.slug if case is not None else None,
        recognised=case is not None or known_state or said.program == "lastgood",
        title=title,
        sqlstate=said.sqlstate,
        count=each.count,
        line=said.line,
        message=said.message[:SHOWN],
        table=table,
        row=row,
        statement=said.more.get("STATEMENT", "")[:SHOWN],
        cause=cause,
        data=data,
        commands=commands,
        lastgood=ours,
        follows=each.follows,
        minor=case.minor if case is not None else False,
    )


def _name(sqlstate: str) -> str:
    """PostgreSQL's own name of a SQLSTATE: ``InvalidXmlDocument``, in words."""
    try:
        name = psycopg.errors.lookup(sqlstate).__name__
    except KeyError:
        return f"SQLSTATE {sqlstate}"
    return "".join(_words(name)).strip().capitalize()


def _words(name: str) -> Iterator[str]:
    for letter in name:
        yield f" {letter.lower()}" if letter.isupper() else letter
