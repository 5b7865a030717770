"""An alternative for a command that failed, and the rules that permit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg import sql

from lastgood.dump.statements import Kind
from lastgood.facts import LanguageFacts
from lastgood.members import Survey

Statement = sql.SQL | sql.Composed
# With --use-set-session-authorization each object is made by its owner.
OWNERS = frozenset({Kind.OWNER, Kind.SESSION_AUTHORIZATION})
PRIVILEGES = frozenset({Kind.GRANT, Kind.DEFAULT_PRIVILEGES})
USUAL_PATH = '"$user", public'


@dataclass(frozen=True, slots=True)
class Rules:
    """The operator's permissions, and facts of the live database.

    ``strict``: nothing may be left out or repaired. ``allow_orphans``: a foreign key whose rows lack a match is added
    NOT VALID. ``no_owner``, ``no_acl``: owners, privileges are not restored, as with pg_restore. ``copy``: the database
    will not replace another, so a privilege on an object of another owner may be missing in it. ``extensions``: name →
    version to install; others get the server's default. ``languages``: languages of which the dump has only the name.
    ``search_path``: the initial one of sessions of the live database. ``members``: the parts of extensions that the
    dump does not hold; ``lenient``: those that can't be restored are left out.
    """

    strict: bool = False
    allow_orphans: bool = False
    no_owner: bool = False
    no_acl: bool = False
    copy: bool = False
    extensions: Mapping[str, str] = field(default_factory=dict)
    languages: Mapping[str, LanguageFacts] = field(default_factory=dict)
    search_path: str = USUAL_PATH
    members: Survey = field(default_factory=Survey)
    lenient: bool = False

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
