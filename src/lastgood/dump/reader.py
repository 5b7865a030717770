"""The reader of a dump: the facts and the loader both consume its stream, so that they always agree.

All faults of a dump are found here: commands that a restore must not run (``Unsafe``), changed bytes (``Corrupt``), and
a premature end (``Incomplete``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from lastgood.dump import names
from lastgood.dump.entries import Entry, RowPart, Rows, RowsEnd, RowsStart, SegmentStart, Skimmed
from lastgood.dump.files.parts import Parted, naming
from lastgood.dump.hints import ANOTHER
from lastgood.dump.lexer import patterns
from lastgood.dump.lexer.lexer import Lexer
from lastgood.dump.lexer.patterns import with_explicit_escapes
from lastgood.dump.lexer.repair import repaired
from lastgood.dump.lexer.tokens import (
    Comment,
    CopyData,
    CopyEnd,
    CopyPart,
    CopySpan,
    CopyStart,
    MetaCommand,
    Noise,
    Statement,
    Token,
)
from lastgood.dump.names import Relation, shown
from lastgood.dump.roles import role_commands
from lastgood.dump.rows import encodings, inserts
from lastgood.dump.rows.checks import check_encoding, check_inserted
from lastgood.dump.rows.copy_section import CopySection
from lastgood.dump.rows.targets import RowTargets
from lastgood.dump.rulings import rule
from lastgood.dump.rulings.session import UPKEEP
from lastgood.dump.search_path import SERVERS_DEFAULT, path_of
from lastgood.dump.signs.ending import WhichDatabase, check_end, made_by_supabase_cli, refusal, resets
from lastgood.dump.signs.foreign import ForeignCommands
from lastgood.dump.signs.text_state import RestrictState, SkippedNoise, TransactionState
from lastgood.dump.statements import (
    Command,
    CopyTarget,
    Created,
    InsertTarget,
    Kind,
    PsqlCommand,
    Setting,
    TableDefinition,
    Verdict,
    understand_psql,
)
from lastgood.dump.summary import DumpSummary, Skipped
from lastgood.errors import BadPoint, Corrupt, Foreign, Incomplete, Unsafe

__all__ = [
    "DumpReading",
    "Entry",
    "ReaderSource",
    "RowPart",
    "Rows",
    "RowsEnd",
    "RowsStart",
    "Skimmed",
    "WhichDatabase",
    "read",
]


class ReaderSource(Protocol):
    """A dump's text, from the beginning at each call of ``chunks``."""

    def chunks(self) -> Iterator[bytes]: ...


def read(
    source: ReaderSource,
    *,
    database: str | None = None,
    accept_unmarked: bool = False,
    accept_partial: bool = False,
    skim: bool = False,
) -> DumpReading:
    """Read a dump from its beginning. Iterate over the result to its end, then use its ``summary``.

    A refused statement raises. A skipped one is yielded with its reason. ``database`` selects one from a cluster dump
    (pg_dumpall) and is ignored otherwise. ``accept_unmarked``: the operator accepts a file without pg_dump's header and
    footer, whose completeness is unknown. ``accept_partial``: the same for a dump made under row-level security.
    ``skim``: rows are only counted; ``Skimmed`` replaces ``Rows``, except for INSERTs. A ``Parted`` source is read file
    by file, with lines and offsets counted in each.

    The iteration raises Incomplete, Corrupt, Unsafe or BadPoint, at the latest at its end: no entry is trustworthy
    before that.
    """
    return DumpReading(
        source, database=database, accept_unmarked=accept_unmarked, accept_partial=accept_partial, skim=skim
    )


_DUMPED_FROM = b"-- Dumped from database version "
_DUMPED_BY = b"-- Dumped by pg_dump version "
_DATA_FOR = re.compile(rb"-- Data for Name: (.*); Type: TABLE DATA; Schema: (.*?); Owner: ", re.DOTALL)
_HEADING = re.compile(r"-- (?:Data for |Statistics for )?Name: (.*); Type: (.*?); Schema: ", re.DOTALL)
_VIA_ROOT = b"-- load via partition root "
_ENTRY = (b"-- Name: ", b"-- Data for Name: ", b"-- Statistics for Name: ")
_NOT_MADE = "refers to an object that none of the files creates"
# undefined_table, invalid_schema_name
_NO_SUCH_RELATION = frozenset({"42P01", "3F000"})
_OF_A_SESSION = frozenset({Kind.SETTING, Kind.SESSION_AUTHORIZATION, Kind.TRANSACTION})
_RELATIONS = frozenset({Kind.TABLE, Kind.FOREIGN_TABLE, Kind.VIEW, Kind.MATERIALIZED_VIEW, Kind.SEQUENCE})
_LATE_DROP = "drops an object after the dump has created others"
_NO_TRANSACTION = "sets a parameter for one transaction, outside a transaction"
_AFTER_END = 'Check the text after the line "-- PostgreSQL database dump complete" at the end of the file.'


class DumpReading:
    """A read of a dump; see ``read``. ``summary`` is complete when the iteration has ended."""

    def __init__(
        self, source: ReaderSource, *, database: str | None, accept_unmarked: bool, accept_partial: bool, skim: bool
    ) -> None:
        self.summary = DumpSummary()
        self._source = source
        self._wanted = database
        self._accept_unmarked = accept_unmarked
        self._accept_partial = accept_partial
        self._skim = skim
        self._existing: set[Relation] = set()
        # The tables, by name and schema as comments show them.
        self._by_header: dict[tuple[bytes, bytes], Relation] = {}
        self._targets = RowTargets()
        self._begin_text()

    def _begin_text(self) -> None:
        """Reset the state of one text, which does not carry over to the next file of a set."""
        self._codec = "utf-8"
        self._missing_schema = ""  # the first schema of the path, if it does not exist and pg_catalog would replace it
        self._escapes_in_strings = False
        self._begin_session()
        self._connected: str | None = None
        self._elsewhere = False
        # The segment: one dump, from its header to its footer. A file may hold several.
        self._open = False
        self._ended = False
        self._entries = False
        self._headed = False
        self._earlier_tables = frozenset(self.summary.tables)
        self._marked = False
        self._cluster_ended = False
        self._last: Command | None = None
        self._supabase = False
        self._comment: Comment | None = None
        self._foreign = ForeignCommands()
        self._restricted = RestrictState()
        self._entry = ""
        self._empty: RowsStart | None = None
        self._group: inserts.InsertSection | None = None
        self._target: inserts.InsertPrefix | None = None
        self._section: CopySection | None = None
        self._noise = SkippedNoise()

    def _begin_session(self) -> None:
        """Reset the state of a session, which psql opens for a file and at each connect."""
        self._path = path_of(None, self._existing)
        self._path_given = False
        self._brackets = TransactionState()

    def __iter__(self) -> Iterator[Entry]:
        if not isinstance(self._source, Parted):
            yield from self._text(self._source)
            return
        for part in self._source.parts:
            with naming(part.name, self.summary.notes):
                if part.is_roles:
                    for command in role_commands(part.source, self.summary.notes):
                        self.summary.note_roles(command)
                        self._note_skipped(command)
                        yield command
                else:
                    self._begin_text()
                    yield SegmentStart(None)
                    yield from self._text(part.source)
        if self.summary.rows_without_table:
            named = ", ".join(shown(relation) for relation in self.summary.rows_without_table)
            self.summary.notes.append(f"none of the files creates {named}: its rows were left out")

    def _text(self, source: ReaderSource) -> Iterator[Entry]:
        """One file, from its beginning to its end."""
        tokens = self._tokens(source)
        try:
            while (token := self._next(tokens)) is not None:
                yield from self._take(token)
        except BadPoint as error:
            foreign = self._foreign.error if self._foreign.maker else None
            if foreign is not None and not isinstance(error, Unsafe | Foreign | WhichDatabase):
                # The syntax of another program may be unknown here.
                raise foreign from error
            raise
        yield from self._flush()
        self.summary.notes += self._noise.notes()
        self.summary.cautions += self._restricted.cautions()
        check_end(
            self.summary,
            wanted=self._wanted,
            foreign=self._foreign.error,
            cut_off=self._open,
            complete=self._cluster_ended if self.summary.cluster else self._marked or self._accept_unmarked,
            last=self._last if self._supabase else None,
            anything=self._last is not None or self.summary.has_data,
        )

    def _next(self, tokens: Iterator[Token]) -> Token | None:
        try:
            return next(tokens, None)
        except (Corrupt, Incomplete) as error:
            # A position alone does not show what was lost.
            relation = self._section.start.relation if self._section is not None else None
            within = f"the rows of {shown(relation)}" if relation is not None else self._entry
            named = str(relation) if relation is not None else self._entry
            if within and shown(named) not in error.message:
                error.message += f", in {within}"
                error.args = (error.message,)
            raise

    def _tokens(self, source: ReaderSource) -> Iterator[Token]:
        index = getattr(source, "row_index", None)
        lexer = Lexer(repaired(source.chunks(), self.summary.notes), skim=self._skim, index=index)
        for token in lexer.tokens():
            yield token
            lexer.ended = self._ended
            # Rows in another format are only counted after conversion to pg_dump's, for which each is needed as a
            # whole.
            lexer.whole_rows = self._section is not None and self._section.converts
            lexer.skim = self._skim and not lexer.whole_rows

    def _take(self, token: Token) -> Iterator[Entry]:
        match token:
            case CopyData() | CopyPart() | CopySpan():
                if self._section is not None:
                    yield from self._section.take(token)
            case CopyEnd():
                if self._section is not None:
                    yield self._section.end(token)
                self._section = None
            case CopyStart():
                self._check_header()
                self._empty = None
                yield from self._flush()
                if self._active(token):
                    yield from self._copy(token)
            case Comment():
                self._restricted.comment(token)
                yield from self._note_comment(token)
                self._comment = token
            case MetaCommand():
                yield from self._flush()
                yield from self._psql(token)
            case Noise():
                self._noise.add(token, ended=self._ended)
            case Statement():
                self._check_header()
                self._restricted.statement(token)
                if self._active(token):
                    yield from self._statement(token)

    # Statements ------------------------------------------------------------------------------------------------

    def _active(self, token: Statement | CopyStart) -> bool:
        """Whether this part of the file is to be restored."""
        if self._ended and not self.summary.cluster and not resets(token) and not UPKEEP.match(token.text):
            self._foreign.behind_the_end(token)
        if not self.summary.cluster:
            return not self._elsewhere
        return self._wanted is not None and self._connected == self._wanted

    def _statement(self, token: Statement) -> Iterator[Entry]:
        self.summary.statements += 1
        if self._escapes_in_strings and self._by_other_program and b"\\" in token.text:
            token = replace(token, text=with_explicit_escapes(token.text))
        if token.text[:6].upper() == b"INSERT":
            start = self._insert(token)
            if start is not None:
                if not self._without_table(start[0].relation):
                    yield from self._default_path(token)
                    yield from self._add(*start, token)
                return
        self._target = None
        yield from self._flush(keep_empty=True)
        command = self._without_uncreated(self._in_context(self._without_local(self._rule_on(token))))
        if command.kind is Kind.TRANSACTION:
            self._last = command
            yield from self._brackets.note(command)
            return
        yield from self._brackets.before(command)
        if command.verdict is Verdict.RUN:
            if command.kind not in _OF_A_SESSION:
                yield from self._default_path(token)
            self._check_run(command)
            self._follow(command)
            self.summary.note_command(command)
            self._supabase = self._supabase or made_by_supabase_cli(command)
            if isinstance(command.detail, InsertTarget):
                self._check_target(command.detail.relation, token)
                columns = self.summary.columns_of(command.detail.relation)
                width = None if columns is None else len(columns)
                check_inserted(command.detail, token, width, all_columns=self._entry.startswith("table data "))
                self._note_rows(command.detail.relation, inserts=True)
        else:
            self._note_skipped(command)
        self._last = command
        yield command

    def _rule_on(self, token: Statement | CopyStart) -> Command:
        self._check_encoding(token.text, token.offset, token.line)
        command = rule(token, path=self._path, encoding=self._codec, escapes_in_strings=self._escapes_in_strings)
        if command.verdict is Verdict.REFUSE and self._foreign.maker and command.kind is Kind.CODE:
            command = replace(command, verdict=Verdict.FOREIGN)
        if command.verdict is Verdict.FOREIGN:
            self._targets.note(command)
            return self._leave_out_foreign(command, command.reason)
        if command.verdict is Verdict.REFUSE:
            if command.not_sql_at is not None and self._foreign.behind is not None:
                raise Corrupt(
                    f"cannot use the dump: line {token.line} has text after the end of the dump",
                    hint=_AFTER_END,
                    line=token.line,
                    offset=token.offset,
                )
            if command.not_sql_at is not None and not self._marked:
                self._foreign.not_sql(token.text)
            raise refusal(command, self._noise, codec=self._codec, entry=self._entry)
        return command

    def _leave_out_foreign(self, command: Command, reason: str) -> Command:
        """Handle a harmless command that pg_dump never writes: leave it out, and refuse the dump at its end, unless a
        worse fault follows."""
        self._foreign.command(command, reason)
        return replace(command, verdict=Verdict.SKIP, reason=reason, creates=(), detail=None)

    @property
    def _by_other_program(self) -> bool:
        """Whether the file is read as that of another program: then it is no restore point, and the text that is read
        will run."""
        return bool(self._foreign.maker)

    def _without_local(self, command: Command) -> Command:
        """The command, but a transaction-local setting is left out outside a transaction."""
        if not isinstance(command.detail, Setting) or not command.detail.local or command.verdict is not Verdict.RUN:
            return command
        if not self._brackets.open:
            return replace(command, verdict=Verdict.SKIP, reason=_NO_TRANSACTION, detail=None)
        reason = f'sets "{command.detail.name}" for one transaction, which pg_dump never does'
        return self._leave_out_foreign(command, reason)

    def _default_path(self, token: Statement | CopyStart) -> Iterator[Entry]:
        """The command that sets psql's default search path if the file sets none, before the first command that may
        depend on it."""
        if not self._path_given:
            self._path_given = True
            yield Command(
                Statement(b"SET search_path = " + SERVERS_DEFAULT.encode(), token.offset, token.line),
                Kind.SETTING,
                detail=Setting("search_path", SERVERS_DEFAULT),
            )

    def _in_context(self, command: Command) -> Command:
        """The command, with a ruling that considers its position: the section that ``--clean`` writes."""
        if command.verdict is Verdict.SKIP and command.kind is Kind.DROP:
            if self._entries:
                return self._leave_out_foreign(command, _LATE_DROP)
            self.summary.clean = True
        elif command.dummy and not self._entries and (self.summary.clean or (self._marked and not self._headed)):
            # In its drops, pg_dump --clean replaces a view by one without references, which fails if the view does not
            # exist.
            self.summary.clean = True
            return replace(
                command, verdict=Verdict.SKIP, reason="replaces a view before it is dropped", creates=(), dummy=False
            )
        elif command.verdict is Verdict.RUN and command.kind not in _OF_A_SESSION:
            self._entries = True
        return command

    def _schema_exists(self, schema: str) -> bool:
        """Whether a schema exists at this point of the dump: the dump or one of its extensions created it."""
        made = Created(Kind.SCHEMA, names.quoted(schema)) in self.summary.created
        by_extension = any(schema in (each.schema, each.name) for each in self.summary.extensions.values())
        return schema == "public" or made or by_extension

    def _check_run(self, command: Command) -> None:
        self._targets.note(command)
        if self._missing_schema and any(
            created.identity.startswith(f"{names.quoted(self._missing_schema)}.") for created in command.creates
        ):
            raise Unsafe(
                f"cannot restore the dump: line {command.statement.line} creates an object in pg_catalog, because the "
                f'schema "{shown(self._missing_schema)}" before it in the search path does not exist',
                hint=ANOTHER,
                line=command.statement.line,
                offset=command.statement.offset,
            )
        line, offset = command.statement.line, command.statement.offset
        if isinstance(command.detail, Setting) and command.detail.name == "row_security":
            self.summary.row_security = command.detail.value not in ("off", "false")
            if self.summary.row_security and not self._accept_partial:
                raise Incomplete(
                    f'cannot use the dump: line {line} has "SET row_security = on", so it has only those rows that '
                    "were visible to the role that made it",
                    hint="Make a dump without --enable-row-security, as a role that bypasses row-level security.",
                    line=line,
                    offset=offset,
                )
        if command.kind is Kind.TABLE and command.relations[0] in self._earlier_tables:
            raise BadPoint(
                f"cannot use the file: it holds several dumps, and line {line} creates "
                f"{shown(command.relations[0])} again",
                hint="Split the file at its headers, and choose one of the parts.",
                line=line,
                offset=offset,
            )

    def _follow(self, command: Command) -> None:
        """Track the state that affects further reading: settings, and the existing tables."""
        if command.kind in _RELATIONS:
            self._existing.add(command.relations[0])
        match command.detail:
            case TableDefinition(relation=relation):
                name, schema = (re.sub(r"[\r\n]", " ", part) for part in (relation.name, relation.schema))
                self._by_header[name.encode(self._codec), schema.encode(self._codec)] = relation
                if self._entry.startswith("table "):
                    self.summary.with_heading.add(relation)
            case Setting(name="search_path", value=value):
                self._path = path_of(value, self._existing)
                self._path_given = True
                before = self._path.before_catalogue
                self._missing_schema = before[0] if before and not any(map(self._schema_exists, before)) else ""
            case Setting(name="standard_conforming_strings", value=value):
                self._escapes_in_strings = (value or "on").lower().encode() in patterns.OFF
            case Setting(name="client_encoding", value=value):
                codec = encodings.codec(value or "")
                if codec is None:
                    line = command.statement.line
                    raise BadPoint(
                        f'cannot read the dump: line {line} declares the unsupported encoding "{shown(value)}"',
                        hint="Make the dump again with pg_dump --encoding=UTF8.",
                        line=line,
                        offset=command.statement.offset,
                    )
                self._codec = codec
                self.summary.encoding = (value or "").upper()

    def _psql(self, token: MetaCommand) -> Iterator[Entry]:
        if self._ended and self._restricted.cut_off(token):
            return
        command = understand_psql(token)
        if command.verdict is Verdict.FOREIGN:
            command = self._leave_out_foreign(command, command.reason)
        if command.verdict is Verdict.REFUSE:
            raise refusal(command, self._noise, codec=self._codec, entry=self._entry)
        detail = command.detail
        if isinstance(detail, PsqlCommand) and detail.name == r"\connect":
            self._connect(detail.argument, token)
        elif isinstance(detail, PsqlCommand):
            self._restricted.psql(detail.name, detail.argument, token.line)
        yield command

    def _connect(self, name: str, token: MetaCommand) -> None:
        """Begin another session; without a ``name``, in the same database."""
        if not self.summary.cluster and name:
            self._enter(name, token)
        self._begin_session()
        if not name:
            return
        self._connected = name
        self.summary.databases += [name] if name not in self.summary.databases else []
        if not self.summary.cluster or name == self._wanted:
            self.summary.database = name
            self.summary.create = True
        self._entries = self._headed = False

    def _enter(self, name: str, token: MetaCommand) -> None:
        """Begin another database in a file that is no cluster dump."""
        if self._connected not in (None, name):
            raise BadPoint(
                f'cannot use the file: it holds dumps of several databases, "{shown(self._connected)}" and '
                f'"{shown(name)}"',
                hint="Split the file at its headers, and choose one of the parts.",
                line=token.line,
                offset=token.offset,
            )

    def _note_skipped(self, command: Command) -> None:
        self.summary.create = self.summary.create or command.statement.text[:15].upper() == b"CREATE DATABASE"
        self.summary.skipped.append(Skipped(command.statement.line, command.kind, command.reason))

    # Comments --------------------------------------------------------------------------------------------------

    def _note_comment(self, token: Comment) -> Iterator[Entry]:
        text = token.text.rstrip()
        if self._comment is not None and token.line > self._comment.line + 1:
            self._check_header()
        if not self._marked:
            self._foreign.comment(text)
        if not text.startswith(b"-- ") or not text.strip(b"- "):
            return
        if text == b"-- PostgreSQL database dump":
            if self._marked and not self.summary.cluster:
                yield from self._flush()
                yield SegmentStart(token.offset)
            self._begin(token)
        elif text == b"-- PostgreSQL database dump complete":
            yield from self._flush()
            self._open, self._ended = False, True
            self._restricted.end_marker()
        elif text == b"-- PostgreSQL database cluster dump":
            self.summary.cluster = True
        elif text == b"-- PostgreSQL database cluster dump complete":
            self._cluster_ended = True
        elif text.startswith(_DUMPED_FROM):
            self.summary.server_version = text[len(_DUMPED_FROM) :].decode("utf-8", "replace")
        elif text.startswith(_DUMPED_BY):
            self.summary.pg_dump_version = text[len(_DUMPED_BY) :].decode("utf-8", "replace")
        elif text.startswith(_ENTRY):
            yield from self._flush()
            self._headed = True
            if (entry := _HEADING.match(text.decode("utf-8", "replace"))) is not None:
                self._entry = shown(f"{entry[2].lower()} {entry[1]}")
            self._data_section(token)
        elif text.startswith(_VIA_ROOT):
            root = self._named(text[len(_VIA_ROOT) :])
            if root is None:
                raise self._broken_out(token)
            if self._empty is not None and root in self.summary.tables:
                self._empty = self._start_of(root, None, token)

    def _named(self, text: bytes) -> Relation | None:
        """The relation with a name in SQL notation; None if it is not a name."""
        name = names.parse(text.decode(self._codec, "replace"), "")
        if name is None or name.schema:
            return name
        return Relation(self._path.schema_of(name.name), name.name)

    def _check_header(self) -> None:
        """Check that the line after an entry's header is ``--``: otherwise a name with a line end has broken out of its
        comment."""
        if self._comment is not None and self._comment.text.startswith(_ENTRY):
            raise self._broken_out(self._comment)

    def _broken_out(self, comment: Comment) -> Unsafe:
        by = f", which pg_dump {shown(self.summary.pg_dump_version)} permits" * self.summary.names_can_break_out
        return Unsafe(
            f"cannot restore the dump: a name with a line end breaks out of the comment in line {comment.line}{by}",
            hint="This is the pattern of an attack through an object's name (CVE-2025-8715). " + ANOTHER,
            line=comment.line,
            offset=comment.offset,
        )

    def _begin(self, token: Comment) -> None:
        if self._open:
            raise Incomplete(
                f"cannot use the file: a dump in it ends before line {token.line}, without its footer",
                hint=ANOTHER,
                line=token.line,
                offset=token.offset,
            )
        self._open = self._marked = self.summary.marked = True
        self._ended = self._entries = self._headed = False
        self._earlier_tables = frozenset(self.summary.tables)

    def _data_section(self, token: Comment) -> None:
        """Remember a data comment until its rows follow: with --inserts, an empty table has nothing else.

        The comment shows a name's line ends as blanks: only a table that the dump creates is recognized, or one that an
        extension of the dump may create.
        """
        match = _DATA_FOR.match(token.text)
        if match is None or not self._active_comment():
            return
        relation = self._by_header.get((match[1], match[2]))
        if relation is None and self.summary.makes_extensions:
            relation = Relation(*(part.decode(self._codec, "replace") for part in (match[2], match[1])))
        if relation is not None:
            self.summary.with_data_section.add(relation)
            self._empty = self._start_of(relation, None, token)

    def _active_comment(self) -> bool:
        return not self.summary.cluster or (self._wanted is not None and self._connected == self._wanted)

    # Rows ------------------------------------------------------------------------------------------------------

    def _start_of(
        self,
        relation: Relation,
        columns: tuple[str, ...] | None,
        at: Statement | CopyStart | Comment,
        copy: bytes = b"",
    ) -> RowsStart:
        if columns is None:
            known = self.summary.columns_of(relation)
            columns = None if known is None else tuple(column.name for column in known if not column.generated)
        if not copy:
            copy = inserts.copy_command(relation, columns).encode(self._codec)
        return RowsStart(relation, columns, copy, at.offset, at.line, in_place=isinstance(at, CopyStart))

    def _without_table(self, relation: Relation) -> bool:
        """Whether rows belong to a table that none of several files creates: ``supabase db dump`` writes rows of auth
        and storage, but leaves these schemas to the platform. If an extension may create the table, its rows are left
        to the load.
        """
        if not isinstance(self._source, Parted) or not self.summary.tables or relation in self.summary.tables:
            return False
        if self._perhaps_of_extension(relation):
            return False
        self.summary.rows_without_table[relation] = None
        return True

    def _perhaps_of_extension(self, relation: Relation) -> bool:
        """Whether an extension in the files may create a table or sequence."""
        if self.summary.makes_extensions:
            self.summary.rows_for_extensions[relation] = None
        return self.summary.makes_extensions

    def _without_uncreated(self, command: Command) -> Command:
        """The command, left out if it has rows or a position for an object that none of several files creates."""
        if command.verdict is not Verdict.RUN:
            return command
        if command.kind is Kind.SEQUENCE_POSITION and isinstance(self._source, Parted) and self.summary.tables:
            left_out = command.relations[0].schema not in {made.schema for made in self.summary.tables}
            left_out = left_out and not self._perhaps_of_extension(command.relations[0])
        else:
            left_out = command.kind is Kind.INSERT and self._without_table(command.relations[0])
        if left_out:
            return replace(command, verdict=Verdict.SKIP, reason=_NOT_MADE)
        if command.relations and command.relations[0] in self.summary.rows_for_extensions:
            return replace(command, optional_sqlstates=command.optional_sqlstates | _NO_SUCH_RELATION)
        return command

    def _copy(self, token: CopyStart) -> Iterator[Entry]:
        self._empty = None
        command = self._rule_on(token)
        if not isinstance(command.detail, CopyTarget) or self._without_table(command.detail.relation):
            return  # its rows are skipped
        self._entries = True
        self._check_target(command.detail.relation, token)
        yield from self._default_path(token)
        self._note_rows(command.detail.relation)
        form = command.detail.form
        text = token.text if form is None else b""
        start = self._start_of(command.detail.relation, command.detail.columns, token, text)
        self._section = CopySection(start, form, encoding=self.summary.encoding, codec=self._codec)
        yield self._section.start

    def _check_target(self, relation: Relation, at: Statement | CopyStart) -> None:
        self._targets.check(relation, self.summary.tables.get(relation), at)

    def _note_rows(self, relation: Relation, *, inserts: bool = False) -> None:
        self.summary.has_data = self._entries = True
        self.summary.inserts = self.summary.inserts or inserts
        self.summary.with_data_section.add(relation)
        self._empty = None

    def _check_encoding(self, text: bytes, offset: int, line: int) -> None:
        check_encoding(text, offset, line, encoding=self.summary.encoding, codec=self._codec)

    # INSERTs ---------------------------------------------------------------------------------------------------

    def _insert(self, token: Statement) -> tuple[RowsStart, list[bytes]] | None:
        """The section that an INSERT of plain literals belongs to, and its rows; None for any other."""
        self._check_encoding(token.text, token.offset, token.line)
        # INSERTs into one table begin with the same bytes, which are parsed once.
        if self._target is None or not token.text.startswith(self._target.prefix):
            self._target = self._find_target(token)
            if self._target is None:
                return None
        target = self._target
        if target.values is None:
            return target.start((), token), [b""]
        rows = inserts.values(
            token.text, target.values, escapes_in_strings=self._escapes_in_strings, plain_numbers=self._by_other_program
        )
        if rows is None or (target.columns is not None and len(target.columns) != rows.width):
            return None
        if target.columns is None:
            return None if rows.defaults else (target.start(None, token), rows.lines)
        if not rows.defaults:
            return target.start(target.columns, token), rows.lines
        # A missing column gets its default: but rows must have the table's values, unless these are computed.
        if any(target.columns[i] not in target.may_default for i in rows.defaults):
            return None
        columns = tuple(name for i, name in enumerate(target.columns) if i not in rows.defaults)
        return target.start(columns, token), rows.lines

    def _find_target(self, token: Statement) -> inserts.InsertPrefix | None:
        head = inserts.head(token.text)
        relation = None if head is None else self._named(head.table)
        if head is None or relation is None:
            return None
        self._check_target(relation, token)
        known = self.summary.columns_of(relation)
        columns: tuple[str, ...] | None = None
        if head.columns is not None:
            parsed = [names.parse(column.decode(self._codec), "") for column in head.columns]
            columns = tuple(column.name for column in parsed if column is not None)
        elif known is not None:
            columns = tuple(column.name for column in known)
        if head.values is None and known != ():
            # A row of DEFAULT VALUES has defaults that the text does not show.
            return None
        may_default = columns or () if known is None else (column.name for column in known if column.generated)
        return inserts.InsertPrefix(
            token.text[: head.values], relation, columns, frozenset(may_default), head.values, self._codec
        )

    def _add(self, start: RowsStart, lines: list[bytes], token: Statement) -> Iterator[Entry]:
        group = self._group
        if group is None or (group.start.relation, group.start.columns) != (start.relation, start.columns):
            self._empty = None
            yield from self._flush()
            self._note_rows(start.relation, inserts=True)
            group = self._group = inserts.InsertSection(start)
            yield start
        yield from group.add(lines, token.offset, token.line)

    def _flush(self, *, keep_empty: bool = False) -> Iterator[Entry]:
        """End the open section of INSERTs, and yield the announced empty one."""
        if self._group is not None:
            group, self._group = self._group, None
            yield from group.end()
        if self._empty is not None and not keep_empty:
            start, self._empty = self._empty, None
            if start.relation not in self.summary.tables:
                self.summary.rows_for_extensions[start.relation] = None
            self._note_rows(start.relation, inserts=True)
            yield start
            yield RowsEnd(0)
