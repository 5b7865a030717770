"""The work that a committed move leaves outside of its transaction: foreign keys and checks to validate, materialized
views to refresh, generated columns to compare. Readers and writers continue meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.dump.names import Relation
from lastgood.in_place import marks
from lastgood.in_place.build import late_checks
from lastgood.in_place.ties import ForeignKey, queries, retie
from lastgood.postgres.errors import message_of
from lastgood.postgres.server import Connection, event_triggers_off

# The beginning of a failure's words.
FOREIGN_KEY = "foreign key "


def complete(connection: Connection, run: str) -> Iterator[str]:
    """Do what the committed move of a run left to do, and record that. Yields each failure in words; such a foreign key
    holds for new rows only. May run again after an interruption, on any machine, under the lock of the live database.
    """
    with event_triggers_off(connection):
        for left in marks.rest(connection, run):
            yield from validated(connection, left.foreign_keys)
            for view in left.views:
                yield from _refresh(connection, view)
            yield from late_checks.validate(connection, left.checks)
            yield from late_checks.compare(connection, left.columns)
            with connection.transaction():
                for each in marks.marked(connection, run=run):
                    if each.ours and each.mark.kept is not None:
                        done = each.mark.model_copy(update={"kept": each.mark.kept.completed()})
                        marks.write(connection, each.name, done)


def _refresh(connection: Connection, view: tuple[str, str]) -> Iterator[str]:
    statement = sql.SQL("REFRESH MATERIALIZED VIEW {}").format(sql.Identifier(*view)).as_string(connection)
    try:
        connection.execute(statement.encode())
    except psycopg.Error as error:
        if connection.broken:
            raise
        yield (
            f"cannot refresh materialized view {Relation(*view)}, which may be out of date: {message_of(error)}; run: "
            f"{statement}"
        )


def validate(connection: Connection, keys: Iterable[ForeignKey]) -> list[tuple[ForeignKey, str]]:
    """Validate foreign keys after a move, each in a transaction of its own. Returns those that failed, with the
    server's reason: rows that they refer to were deleted meanwhile.

    VALIDATE blocks neither readers nor writers. Before 18, a foreign key of a partitioned table cannot be NOT VALID: it
    is created here, and writers of both tables wait meanwhile; after a failure it does not exist.
    """
    failed = []
    for key in keys:
        fault.point("inplace.before_validate")
        there = {each.key for each in queries.foreign_keys(connection, [key.schema_name])}
        try:
            if key.key in there:
                connection.execute(retie.validate_foreign_key(key))
            elif key.partitioned:
                retie.single(connection, retie.add_foreign_key(key, valid=True))
                if key.comment is not None:
                    connection.execute(retie.comment_foreign_key(key))
        except psycopg.errors.ForeignKeyViolation as error:
            failed.append((key, message_of(error)))
    return failed


def validated(connection: Connection, keys: Iterable[ForeignKey]) -> Iterator[str]:
    """Validate foreign keys, and yield each failure in words: such a key holds for new rows only."""
    for key, why in validate(connection, keys):
        yield f'{FOREIGN_KEY}"{key.name}" of "{key.schema_name}.{key.table}" is still NOT VALID: {why}'
