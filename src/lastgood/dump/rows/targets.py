"""The permitted targets of a dump's rows: its own tables or those of extensions, but no relation that forwards them.

Rows for a view change its underlying relation, which may be a system catalogue; rows for a foreign table are written to
another server. pg_dump writes neither, except with ``--include-foreign-data``.
"""

from __future__ import annotations

from lastgood.dump import names
from lastgood.dump.hints import ANOTHER
from lastgood.dump.lexer.tokens import CopyStart, MetaCommand, Statement
from lastgood.dump.names import Relation, shown
from lastgood.dump.statements import Command, Kind, TableDefinition, Verdict
from lastgood.errors import Unsafe


class RowTargets:
    """The targets of one dump. Both methods raise Unsafe."""

    def __init__(self) -> None:
        self._filled: set[Relation] = set()
        self._views: set[Relation] = set()
        self._over_catalogues: set[Relation] = set()
        self._foreign: set[Relation] = set()
        self._partitioned: set[Relation] = set()
        self._partitions: dict[Relation, set[Relation]] = {}

    def note(self, command: Command) -> None:
        """Record the tables, views and rules of a command that will run."""
        statement = command.statement
        if command.kind is Kind.VIEW or (command.kind is Kind.RULE and command.reads):
            view = command.relations[0]
            self._views.add(view)
            if any(names.is_system_schema(each.schema) or each in self._over_catalogues for each in command.reads):
                self._over_catalogues.add(view)
            if view in self._filled:
                raise _unsafe(statement, f"creates {shown(view)} as a view, but the dump has rows for it")
        elif isinstance(command.detail, TableDefinition) and command.kind in (Kind.TABLE, Kind.FOREIGN_TABLE):
            if command.detail.foreign:
                self._foreign.add(command.detail.relation)
            if command.detail.partitioned:
                self._partitioned.add(command.detail.relation)
            for parent in command.detail.inherits:
                self._partitions.setdefault(parent, set()).add(command.detail.relation)
        elif command.kind is Kind.PARTITION and len(command.relations) == 2:
            parent, child = command.relations
            self._partitions.setdefault(parent, set()).add(child)
        if self._foreign:
            # Definitions that follow rows, in another file or part, are loaded before them.
            for each in sorted(self._filled & self._partitioned):
                self._check_reached(each, statement)
        written = set(command.writes)
        if command.verdict is Verdict.FOREIGN:
            written.update(command.relations)
            if command.kind is Kind.CHANGE and isinstance(command.detail, Relation):
                self._rename(command.relations[0], command.detail)
        for each in sorted(written & self._over_catalogues):
            raise _unsafe(statement, f"changes system catalogues through the view {shown(each)}")

    def _rename(self, before: Relation, after: Relation) -> None:
        for relations in (self._filled, self._views, self._over_catalogues, self._foreign):
            if before in relations:
                relations.add(after)

    def check(self, relation: Relation, definition: TableDefinition | None, at: Statement | CopyStart) -> None:
        """Check ``relation``, with this ``definition`` in the dump, as the target of rows that begin at ``at``."""
        self._filled.add(relation)
        if names.is_system_schema(relation.schema):
            raise _unsafe(at, f'changes "{shown(relation)}", which belongs to PostgreSQL itself')
        if relation in self._views:
            raise _unsafe(at, f"has rows for the view {shown(relation)}, which pg_dump never writes")
        if definition is not None and definition.partitioned:
            self._partitioned.add(relation)
        self._check_reached(relation, at)

    def _check_reached(self, relation: Relation, at: Statement | CopyStart | MetaCommand) -> None:
        """Check that rows of a relation reach no foreign table."""
        reached = [relation]
        for each in reached:
            if each in self._partitioned:
                reached += sorted(self._partitions.get(each, set()).difference(reached))
        for each in reached:
            if each in self._foreign:
                reason = f"has rows for the foreign table {shown(each)}, which would be written to another server"
                raise _unsafe(at, reason)


def _unsafe(at: Statement | CopyStart | MetaCommand, why: str) -> Unsafe:
    return Unsafe(f"cannot restore the dump: line {at.line} {why}", hint=ANOTHER, line=at.line, offset=at.offset)
