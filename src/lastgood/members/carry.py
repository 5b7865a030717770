"""Restore the parts of extensions that no dump holds.

Parts that the restore point's commands or rows may need are restored right after CREATE EXTENSION, all others after the
rows. It may run again: parts that are in place are left unchanged. Commands of a manifest are untrusted text, and run
only if they are of the kinds that ``lastgood.members.parts`` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import psycopg
from psycopg import sql

from lastgood.dump.lexer.tokens import Statement
from lastgood.dump.rulings import rule
from lastgood.dump.rulings.tree import parse
from lastgood.dump.statements import Kind
from lastgood.errors import OR_TRUST, Failed
from lastgood.members import Deviation, MemberSurvey, UndumpedRows
from lastgood.members.parts import EARLY, KINDS, parts
from lastgood.members.survey import digest
from lastgood.members.tables import MemberTable, member_tables
from lastgood.members.untrusted import executes_others
from lastgood.postgres.errors import message_of, not_caused_by_statement
from lastgood.postgres.server import Connection
from lastgood.text.units import counted

ReportPart = Callable[[str, str], object]
"""A function that gets the name of a part that was carried over, and how."""

RESTORED = "no dump holds it: restored as it was"
NOT_RESTORED = "no dump holds it, and it was not restored: it remains only in the kept database"
_ALLOWED = frozenset({
    "AlterDomainStmt", "AlterEnumStmt", "AlterExtensionContentsStmt", "AlterFunctionStmt", "AlterOwnerStmt",
    "AlterPublicationStmt", "AlterSeqStmt", "AlterTSConfigurationStmt", "AlterTSDictionaryStmt", "AlterTableStmt",
    "CommentStmt", "CreateFunctionStmt", "CreatePolicyStmt", "CreateSchemaStmt", "CreateSeqStmt", "CreateStatsStmt",
    "CreateStmt", "CreateTrigStmt", "DropStmt", "IndexStmt", "RuleStmt", "ViewStmt",
})  # fmt: skip
_NATIVE = frozenset({"c", "internal"})


class Carrier:
    """Carry a survey over to the database that is being restored. ``report`` gets each result. ``lenient``: a part that
    can't be restored is reported and is no error. ``confined``: where the role has rights that code could use, nothing
    of the restore point is executed."""

    def __init__(
        self, survey: MemberSurvey, report: ReportPart, *, lenient: bool = False, confined: bool = True
    ) -> None:
        self._survey = survey
        self._report = report
        self._lenient = lenient
        self._confined = confined

    def early(self, connection: Connection, extension: str) -> None:
        """Restore early parts; to be called right after an extension was created. Raises Failed."""
        wanted = [each for each in self._survey.departures if each.extension == extension]
        removed = [each for each in wanted if each.change == "removed" or (each.change == "changed" and each.removal)]
        self._remove(connection, [each for each in removed if each.kind == "member"])
        self._remove(connection, [each for each in removed if each.kind != "member"])
        self._make(connection, [each for each in wanted if each.kind in EARLY])

    def late(self, connection: Connection) -> None:
        """Restore all other parts; to be called last. Raises Failed."""
        self._make(connection, [each for each in self._survey.departures if each.kind not in EARLY])

    def rows(self, live: Connection, restored: Connection, undumped: Iterable[UndumpedRows]) -> None:
        """Copy rows that no dump holds from the live database. To be called before ``late``, so that no user trigger
        fires. Raises Failed."""
        wanted = {(each.schema_name, each.name) for each in undumped}
        existing = {table.relation: table for table in member_tables(restored)}
        for table in member_tables(live):
            if (table.relation.schema, table.relation.name) not in wanted or table.relation not in existing:
                continue
            named = f"rows of {table.relation}"
            try:
                with restored.transaction():
                    _without_triggers(restored)
                    number = _copy_rows(live, restored, table, existing[table.relation])
            except psycopg.Error as error:
                self._failed(named, table.extension, error)
            else:
                self._report(named, f"no dump holds them: {counted(number, 'row')} copied from the live database")

    def _remove(self, connection: Connection, departures: Sequence[Deviation]) -> None:
        existing = parts(connection) if departures else {}
        for each in sorted(departures, key=lambda each: KINDS.index(each.kind), reverse=True):
            part = existing.get((each.kind, each.identity))
            if part is None or (each.change == "changed" and digest(part) == each.digest):
                continue
            removed = self._run(connection, each, each.removal)
            if removed and each.change == "removed":
                self._report(each.named, "removed: it did not exist when the restore point was made")

    def _make(self, connection: Connection, departures: Iterable[Deviation]) -> None:
        wanted = [each for each in departures if each.change != "removed" and each.kind in KINDS]
        wanted.sort(key=lambda each: KINDS.index(each.kind))
        existing = parts(connection) if wanted else {}
        for each in wanted:
            part = existing.get((each.kind, each.identity))
            if part is not None and digest(part) == each.digest:
                continue
            if each.commands and self._run(connection, each, each.commands):
                self._report(each.named, RESTORED)
            elif not each.commands:
                self._report(each.named, NOT_RESTORED)

    def _run(self, connection: Connection, departure: Deviation, commands: Iterable[str]) -> bool:
        named = departure.named
        try:
            with connection.transaction():
                for command in commands:
                    if not _allowed(command):
                        raise Failed(
                            f'cannot restore {named} of extension "{departure.extension}": the manifest has a command '
                            f"that lastgood does not write: {command[:80]}",
                            hint="Choose another restore point: lastgood points",
                        )
                    if self._confined and executes_others(connection, command):
                        self._not_run(named, departure.extension)
                        return False
                    connection.execute(command.encode())
        except psycopg.Error as error:
            self._failed(named, departure.extension, error)
            return False
        return True

    def _not_run(self, named: str, extension: str) -> None:
        why = "it would run functions of the restore point with your rights"
        if not self._lenient:
            raise Failed(
                f'cannot restore {named} of extension "{extension}": {why}',
                hint=f"Leave it in the kept database: --override extensions --reason TEXT. {OR_TRUST}",
            )
        self._report(named, f"{NOT_RESTORED} ({why})")

    def _failed(self, named: str, extension: str, error: psycopg.Error) -> None:
        why = message_of(error)
        if not self._lenient or not_caused_by_statement(error):
            raise Failed(
                f'cannot restore {named} of extension "{extension}": {why}',
                hint="Roll back without it and leave it in the kept database: --override extensions --reason TEXT",
            ) from error
        self._report(named, f"{NOT_RESTORED} ({why})")


def _copy_rows(live: Connection, restored: Connection, table: MemberTable, restored_table: MemberTable) -> int:
    columns = tuple(name for name in table.columns if name in restored_table.columns)
    restored.execute(sql.SQL("DELETE FROM ") + restored_table.outside())
    listed = sql.SQL(", ").join(map(sql.Identifier, columns))
    command = sql.SQL("COPY {} ({}) FROM STDIN").format(restored_table.name, listed)
    with live.cursor() as reading, restored.cursor() as writing:
        with reading.copy(table.copy(columns)) as source, writing.copy(command) as sink:
            for data in source:
                sink.write(data)
        return max(writing.rowcount, 0)


def _without_triggers(connection: Connection) -> None:
    """Disable triggers, for superusers: the extension's keys and triggers have checked these rows before."""
    if connection.info.parameter_status("is_superuser") == "on":
        connection.execute("SET LOCAL session_replication_role = replica")


def _allowed(command: str) -> bool:
    if rule(Statement(command.encode(), 0, 0)).kind is Kind.SEQUENCE_POSITION:
        return True
    commands = parse(command)
    if len(commands) != 1 or commands[0].tag not in _ALLOWED:
        return False
    options = commands[0].options if commands[0].tag == "CreateFunctionStmt" else ()
    return not any(each.defname == "language" and each.arg.sval in _NATIVE for each in options)
