"""A task's way to the server: everything it asks is bounded, and leaves no lock behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from psycopg import sql

from lastgood.errors import Interrupted
from lastgood.postgres.server import Connection

# How much the time that is left may differ from the limit that the server was told before it is told again.
_STALE = 0.95


class OutOfTime(Exception):
    """The time limit was reached before a task began, or in the middle of it."""


@dataclass
class Look:
    """One connection inside the snapshot. ``deadline`` is a moment of ``time.monotonic``, None for no limit;
    ``cancelled`` turns true when a person wants to stop."""

    connection: Connection
    deadline: float | None
    cancelled: Callable[[], bool]
    path: str = ""
    _told: float = field(default=0.0, repr=False)

    @property
    def left(self) -> float:
        """Seconds until the deadline. Raises OutOfTime when there are none, Interrupted when cancelled."""
        if self.cancelled():
            raise Interrupted("interrupted while the database was validated")
        if self.deadline is None:
            return float("inf")
        left = self.deadline - monotonic()
        if left <= 0.05:
            raise OutOfTime
        return left

    @contextmanager
    def task(self, share: float = 1.0) -> Iterator[None]:
        """The time for one task: at most ``share`` of what is left. All locks that it took are given back at its end:
        a table is held (ACCESS SHARE) no longer than one task looks at it, and its failure does not end the others.
        """
        left = self.left
        if self.deadline is not None:
            wanted = left * share
            if not _STALE * self._told <= wanted <= self._told:
                self.connection.execute(
                    "SELECT pg_catalog.set_config('statement_timeout', %s, true)", [f"{max(1, int(wanted * 1000))}ms"]
                )
                self._told = wanted
        with self.connection.transaction(force_rollback=True):
            yield

    def rows(self, query: sql.SQL | sql.Composed, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a query. Raises psycopg.Error, OutOfTime."""
        _ = self.left
        return self.connection.execute(query, parameters).fetchall()

    def row(self, query: sql.SQL | sql.Composed, parameters: Sequence[Any] | None = None) -> tuple[Any, ...]:
        """The one row of a query that always gives one."""
        (found,) = self.rows(query, parameters)
        return found

    def texts(
        self, query: sql.SQL | sql.Composed, parameters: Sequence[Any] | None = None
    ) -> list[tuple[str | None, ...]]:
        """All rows of a query as the server writes them: psycopg would refuse to decode a text that is damaged."""
        _ = self.left
        result = self.connection.execute(query, parameters).pgresult
        assert result is not None, "a query has a result"
        return [
            tuple(
                None if value is None else value.decode("utf-8", "replace")
                for value in (result.get_value(row, column) for column in range(result.nfields))
            )
            for row in range(result.ntuples)
        ]

    def text(self, query: sql.Composable) -> str:
        """The query as text, for a person who wants to run it himself."""
        return " ".join(query.as_string(self.connection).split())
