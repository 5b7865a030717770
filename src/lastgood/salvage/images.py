"""The rows that a salvage changes, before and after, in private files of the state folder: what an undo needs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from psycopg import sql
from pydantic import ValidationError

from lastgood.errors import Failed, Refused
from lastgood.models import Frozen
from lastgood.postgres.server import Connection
from lastgood.process import durable
from lastgood.salvage.staged import Staged, at, cell, copied_out, listed
from lastgood.salvage.tables import Name

FOLDER = "salvages"
_INDEX = "tables.json"
_BLOCK = 1 << 20
When = Literal["before", "after", "renumbered"]
_WRITTEN: dict[str, str] = {"before": "('update', 'delete')", "after": "('insert', 'update')"}


class Image(Frozen):
    """One table: the ``columns`` of the COPY text in both of its files. ``renumbered``: a third one has the old and the
    new keys of rows that got a new one."""

    schema_name: str
    name: str
    number: int
    columns: tuple[str, ...]
    renumbered: bool = False


class Images(Frozen):
    """The tables in which one run changed rows. ``transaction`` is the server's number for it; ``source`` the run, or
    the restore point, from which rows came, empty for an undo."""

    run: str
    live: str
    live_oid: int
    transaction: int
    source: str = ""
    tables: tuple[Image, ...]


class Recorder:
    """Writes the images of one run, in the transaction that changes the rows."""

    def __init__(self, connection: Connection, state: Path, run: str, staged: Sequence[Staged]) -> None:
        self._connection = connection
        self._run = run
        self._folder = state / FOLDER / run
        self._staged = staged
        self._written: set[int] = set()

    def record(self, when: When) -> None:
        """Write the rows that will be, or were, changed. Raises Failed when the disk is full."""
        try:
            durable.private_folder(self._folder)
            for each in self._staged:
                if self._write(f"{each.number}.{when}", _rows(each, when)):
                    self._written.add(each.number)
        except OSError as error:
            raise _unwritten(self._folder, error) from error

    def _write(self, name: str, query: sql.Composed) -> int:
        with os.fdopen(os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for block in copied_out(self._connection, query):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def close(self, live: str, live_oid: int, source: str, transaction: int, renumbered: Collection[Name]) -> None:
        """Write the new keys of the tables with ``renumbered`` rows, and make the images complete, before the commit.
        Raises Failed."""
        found = Images(
            run=self._run,
            live=live,
            live_oid=live_oid,
            transaction=transaction,
            source=source,
            tables=tuple(
                Image(
                    schema_name=each.table.schema,
                    name=each.table.name,
                    number=each.number,
                    columns=_columns(each),
                    renumbered=(each.table.schema, each.table.name) in renumbered,
                )
                for each in self._staged
                if each.number in self._written  # an undo must not depend on other tables
            ),
        )
        try:
            for each in self._staged:
                if (each.table.schema, each.table.name) in renumbered and each.key is not None:
                    name = each.key.columns[0]
                    query = sql.SQL("SELECT {}, {} FROM {} m WHERE m.renumbered")
                    self._write(f"{each.number}.renumbered", query.format(cell("t", name), cell("f", name), each.merge))
            durable.write_private(self._folder / _INDEX, found.model_dump_json().encode())
        except OSError as error:
            raise _unwritten(self._folder, error) from error


def _unwritten(folder: Path, error: OSError) -> Failed:
    return Failed(
        f'cannot write the images of the rows to "{folder}": {(error.strerror or str(error)).lower()}',
        hint="Free space on the disk, or name another folder with --state.",
    )


def _columns(staged: Staged) -> tuple[str, ...]:
    """Rows without a key are known by the merged columns only."""
    return staged.table.stored if staged.key is not None else staged.columns


def _rows(staged: Staged, when: When) -> sql.Composed:
    columns = listed(at("o", each) for each in _columns(staged))
    if staged.key is None:
        return sql.SQL("SELECT {} FROM {} o WHERE {} IN (SELECT m.image FROM {} m WHERE m.action IS NOT NULL)").format(
            columns, staged.table.rows, staged.image("o"), staged.merge
        )
    return sql.SQL("SELECT {} FROM {} m JOIN {} o ON {} WHERE m.action IN {}").format(
        columns,
        staged.merge,
        staged.table.rows,
        staged.match("o", "o" if when == "before" else "f"),
        sql.SQL(_WRITTEN[when]),
    )


def read(state: Path, run: str) -> Images:
    """The images of a run. Raises Refused if this machine has none."""
    path = state / FOLDER / run / _INDEX
    try:
        return Images.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise Refused(
            f'cannot undo the salvage "{run}": its saved rows are not in "{path.parent}"',
            hint="Run this command on the machine, and with the state folder, that the salvage ran with.",
        ) from error


def rows(state: Path, run: str, image: Image, when: When) -> Iterator[bytes]:
    """The rows of one table as blocks of COPY text. Raises OSError."""
    with (state / FOLDER / run / f"{image.number}.{when}").open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def new_keys(state: Path, run: str, schema: str, name: str) -> Path:
    """The file with the old and the new keys of a table, as COPY text. Raises Refused."""
    found = read(state, run)
    number = next(each.number for each in found.tables if (each.schema_name, each.name) == (schema, name))
    return state / FOLDER / run / f"{number}.renumbered"


def of_source(state: Path, live_oid: int, source: str) -> list[Images]:
    """The salvages of the same source into the same database, the oldest first."""
    return [each for each in _all(state) if (each.live_oid, each.source) == (live_oid, source)]


def newest(state: Path, live: str) -> str | None:
    """The newest run that salvaged rows into ``live``."""
    return next((each.run for each in reversed(_all(state)) if each.live == live), None)


def _all(state: Path) -> list[Images]:
    found = []
    for folder in sorted((state / FOLDER).glob("[0-9]*")):
        with suppress(OSError, ValidationError):
            found.append(Images.model_validate_json((folder / _INDEX).read_bytes()))
    # Names of the same second end at random: then the server's transaction numbers decide.
    return sorted(found, key=lambda each: (each.run[: len("20260101-000000")], each.transaction))
