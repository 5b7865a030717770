"""A task's access to the server: every query is limited in time and leaves no lock behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from psycopg import sql

from lastgood.errors import Interrupted
from lastgood.postgres.server import Connection

# The statement_timeout is set again when the remaining time falls below this share of it.
_STALE = 0.95


class OutOfTime(Exception):
    """The time limit was reached before a task began, or in the middle of it."""


@dataclass
class RuleReader:
    """One connection in the snapshot. ``deadline``: in ``time.monotonic``, None for no limit. ``cancelled``: true after
    an interrupt."""

    connection: Connection
    deadline: float | None
    cancelled: Callable[[], bool]
    path: str = ""
    _timeout: float = field(default=0.0, repr=False)

    @property
    def remaining(self) -> float:
        """The seconds until the deadline. Raises OutOfTime when it has passed, Interrupted when cancelled."""
        if self.cancelled():
            raise Interrupted("interrupted during the validation")
        if self.deadline is None:
            return float("inf")
        seconds = self.deadline - monotonic()
        if seconds <= 0.05:
            raise OutOfTime
        return seconds

    @contextmanager
    def task(self, share: float = 1.0) -> Iterator[None]:
        """Run one task in at most ``share`` of the remaining time. Its locks (ACCESS SHARE) are released at its end,
        and its failure does not affect other tasks.
        """
        seconds = self.remaining
        if self.deadline is not None:
            timeout = seconds * share
            if not _STALE * self._timeout <= timeout <= self._timeout:
                self.connection.execute(
                    "SELECT pg_catalog.set_config('statement_timeout', %s, true)", [f"{max(1, int(timeout * 1000))}ms"]
                )
                self._timeout = timeout
        with self.connection.transaction(force_rollback=True):
            yield

    def rows(self, query: sql.SQL | sql.Composed, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Return all rows of a query. Raises psycopg.Error, OutOfTime."""
        _ = self.remaining
        return self.connection.execute(query, parameters).fetchall()

    def row(self, query: sql.SQL | sql.Composed, parameters: Sequence[Any] | None = None) -> tuple[Any, ...]:
        """Return the row of a query that always gives exactly one."""
        (row,) = self.rows(query, parameters)
        return row

    def texts(
        self, query: sql.SQL | sql.Composed, parameters: Sequence[Any] | None = None
    ) -> list[tuple[str | None, ...]]:
        """Return all rows of a query as text from the server: psycopg would fail to decode damaged text."""
        _ = self.remaining
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
        """Return the query as text, for users to run it themselves."""
        return " ".join(query.as_string(self.connection).split())
