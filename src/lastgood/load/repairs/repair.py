"""Repairs: an alternative for a command that failed, the rules that permit it, and the record of a load's repairs and
omissions.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from lastgood.dump import names
from lastgood.dump.rulings.tree import parse
from lastgood.dump.script import State
from lastgood.dump.statements import NEXT, Command, Kind
from lastgood.errors import OR_TRUST
from lastgood.facts import LanguageFacts
from lastgood.members import MemberSurvey
from lastgood.models import Frozen
from lastgood.postgres.access.servers_own import Right

Statement = sql.SQL | sql.Composed
# With --use-set-session-authorization each object is made by its owner.
OWNERS = frozenset({Kind.OWNER, Kind.SESSION_AUTHORIZATION})
PRIVILEGES = frozenset({Kind.GRANT, Kind.DEFAULT_PRIVILEGES})
USUAL_PATH = '"$user", public'
INSUFFICIENT_PRIVILEGE = "42501"
LEFT = b"SET search_path = ''"
CODE_TRIED = "code in the restore point tried to run"
DEFINITIONS_CHANGE = "A function of the restore point changes definitions while it is restored."


@dataclass(frozen=True, slots=True)
class Rules:
    """The operator's permissions, and facts of the live database.

    ``strict``: nothing may be left out or repaired. ``allow_orphans``: a foreign key whose rows lack a match is added
    NOT VALID. ``no_owner``, ``no_acl``: owners, privileges are not restored, as with pg_restore. ``copy``: the database
    will not replace another, so a privilege on an object of another owner may be missing in it. ``extensions``: name →
    version to install; others get the server's default. ``languages``: languages of which the dump has only the name.
    ``search_path``: the initial one of sessions of the live database. ``members``: the parts of extensions that the
    dump does not hold; ``lenient``: those that can't be restored are left out. ``within``: the schemas that are loaded
    into a database in service, of which the load changes nothing else; None for a database of its own. ``confined``:
    code of the restore point must not run with rights that are worth stealing. ``server_rights``: the rights on
    PostgreSQL's own objects that the live database gives.
    """

    strict: bool = False
    allow_orphans: bool = False
    no_owner: bool = False
    no_acl: bool = False
    copy: bool = False
    extensions: Mapping[str, str] = field(default_factory=dict)
    languages: Mapping[str, LanguageFacts] = field(default_factory=dict)
    search_path: str = USUAL_PATH
    members: MemberSurvey = field(default_factory=MemberSurvey)
    lenient: bool = False
    within: tuple[str, ...] | None = None
    confined: bool = True
    server_rights: frozenset[Right] = frozenset()

    def unwanted(self, kind: Kind) -> str:
        """The reason why commands of this kind must not run; empty if they may."""
        if self.no_owner and kind in OWNERS:
            return "owners are not restored (--no-owner)"
        if self.no_acl and kind in PRIVILEGES:
            return "privileges are not restored (--no-acl)"
        return ""


@dataclass(frozen=True, slots=True)
class Repair:
    """The statements to run instead of a command that failed: ``before``, ``text``, ``after``, in one transaction.

    ``why`` is for the report and describes the difference from the restore point.
    """

    text: bytes | Statement
    why: str
    before: tuple[Statement, ...] = ()
    after: tuple[Statement, ...] = ()


class Repaired(Frozen):
    """A command or rows that the server did not accept unchanged: ``why``, and what was done. Line 0: a part of an
    extension that no dump holds, and was restored."""

    what: str
    why: str
    line: int


@dataclass(slots=True)
class Record:
    """``skipped``: (what, why) → (first line, how many) of commands that a rule left out, or that the server refused as
    a rule permits. ``repaired``: in chronological order."""

    skipped: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    repaired: list[Repaired] = field(default_factory=list)
    _left_out: set[int] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def skip(self, command: Command, why: str, named: str | None = None) -> None:
        """Record a command that was left out; once, even if each session has tried it. ``named``: the name to count it
        under, instead of its object's."""
        key = (named or what(command), why)
        with self._lock:
            if command.statement.offset in self._left_out:
                return
            self._left_out.add(command.statement.offset)
            line, count = self.skipped.get(key, (command.statement.line, 0))
            self.skipped[key] = (min(line, command.statement.line), count + 1)

    def add_skipped(self, named: str, why: str, line: int) -> None:
        """Record rows that were left out, or a command that had no effect."""
        with self._lock:
            first, count = self.skipped.get((named, why), (line, 0))
            self.skipped[named, why] = (min(first, line), count + 1)

    def repair(self, done: Repaired) -> bool:
        """Record a repair; False if another session has recorded it already."""
        with self._lock:
            if done in self.repaired:
                return False
            self.repaired.append(done)
            return True


# Options of columns such as pg_attver of 15.20. An older pg_dump writes them nevertheless, and a server without them
# refuses them.
_OPTION = rb"[a-z0-9_]+=-?[\w.]+"
_COLUMN_OPTIONS = re.compile(
    rb"(ALTER .*\bALTER COLUMN .* SET \()(%s(?:, %s)*)(\))\s*\Z" % (_OPTION, _OPTION), re.DOTALL
)
_INTERNAL = re.compile(rb"\bpg_[a-z0-9_]+=[^,]*(?:, |\Z)")


def denied(error: psycopg.Error) -> str:
    """The hint for what the server denied to the role that loads a restore point."""
    changing = (error.diag.message_primary or "").startswith(CODE_TRIED)
    why = DEFINITIONS_CHANGE if changing else "The role that runs code of the restore point may not do this."
    return f"{why} {OR_TRUST}"


def text_to_send(command: Command) -> bytes | None:
    """The text of a command without internal options of columns; None if it sets nothing else."""
    whole = command.statement.text
    if command.kind is not Kind.TABLE_PROPERTY or b"pg_" not in whole:
        return whole
    found = _COLUMN_OPTIONS.match(whole)
    if found is None:
        return whole
    left = re.sub(rb", \Z", b"", _INTERNAL.sub(b"", found[2]))
    return found[1] + left + found[3] if left.strip() else None


def path_in(state: State) -> bytes | None:
    """The statement that sets the search path of a state."""
    return next((command.statement.text for name, command in state if name == "search_path"), None)


def under(path: bytes | None, text: bytes) -> bytes:
    """One message that runs ``text`` under a search path, and leaves an empty one, even if it fails."""
    return text if path is None else NEXT.join([path, text, LEFT])


def in_path(path: bytes | None, text: bytes | Statement) -> tuple[bytes | Statement, ...]:
    """The same as separate messages of a transaction."""
    return (text,) if path is None else (path, text, LEFT)


def what(command: Command) -> str:
    """A command in a few words: ``index public.a_b_idx``, ``grant on public.t``."""
    if command.creates:
        return f"{command.creates[0].kind} {command.creates[0].identity}"
    if command.kind is Kind.OPERATOR_FAMILY:
        (node,) = parse(command.statement.text.decode("utf-8", "replace"))
        return f"{command.kind} {names.of_list(node.opfamilyname, '')} using {names.quoted(node.amname)}"
    return f"{command.kind} on {command.relations[0]}" if command.relations else str(command.kind)


def place(name: str, line: int, offset: int | None, named: str) -> str:
    """A place in a dump, for messages: ``line 7 of "good.sql" (byte 120, index public.a_b_idx)``; 0 is no line."""
    byte = "" if offset is None else f"byte {offset}, "
    where = f'line {line} of "{name}"' if line else f'"{name}"'
    return f"{where} ({byte}{named})"
