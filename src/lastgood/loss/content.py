"""Comparison of the rows of live tables with a restore point, by digest and within a time limit.

A table that is not read in time, or whose digest can't be compared, is reported as not compared; never as equal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Literal

import psycopg
from psycopg import sql

from lastgood.errors import Interrupted
from lastgood.facts import DigestRules, Facts, TableFacts, time_zone
from lastgood.facts.compare import FactsComparison, compare
from lastgood.facts.digest import RowsDigest
from lastgood.facts.of_database import PINNED
from lastgood.facts.relations import Source, as_in
from lastgood.facts.row_stream import digest_rows
from lastgood.loss.tables import Key, LiveTable
from lastgood.postgres.errors import message_of
from lastgood.postgres.server import Connection
from lastgood.text.units import duration

State = Literal["equal", "changed", "not compared"]


@dataclass(frozen=True, slots=True)
class Content:
    """The result of comparing a table's rows. ``why``: why they were not compared, or how they differ; ``rows``: the
    number of rows read, None if they were not."""

    state: State
    why: str = ""
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """The time limit of all comparisons."""

    seconds: float
    until: float

    @classmethod
    def of(cls, seconds: float) -> Limit:
        """A limit of ``seconds`` from now."""
        return cls(seconds, monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds until the limit."""
        return self.until - monotonic()

    @property
    def why(self) -> str:
        """The reason why a table was not compared."""
        if not self.seconds:
            return "content comparison is turned off"
        return f"time limit of {duration(self.seconds)} reached"


_Read = dict[tuple[Key, str | None, str, tuple[str, ...]], TableFacts | str]


class Reader:
    """Read digests of live tables: each once, for any number of restore points."""

    def __init__(self, connection: Connection, limit: Limit, cancelled: Callable[[], bool] = lambda: False) -> None:
        self._connection = connection
        self._limit = limit
        self._cancelled = cancelled
        self._read: _Read = {}
        self._zones: dict[tuple[str, ...], str | None] = {}

    def compare(self, tables: Mapping[Key, LiveTable], facts: Facts, shut: Collection[Key] = ()) -> dict[Key, Content]:
        """For each table of ``facts`` that the live database has: whether its rows are the same. Changes no setting for
        good. Raises Interrupted when ``cancelled`` turned true."""
        expected = {(each.schema_name, each.name): each for each in facts.tables}
        found: dict[Key, Content] = {}
        wanted: list[Key] = []
        for key, then in expected.items():
            table = tables.get(key)
            if table is None:
                continue
            settled = _settled(table, then, locked=key in shut)
            if settled is not None:
                found[key] = settled
            elif self._limit.left <= 0:
                found[key] = Content("not compared", self._limit.why)
            else:
                wanted.append(key)
        if wanted:
            found |= dict(self._compared(facts, wanted))
        return found

    def _compared(self, facts: Facts, wanted: Sequence[Key]) -> Iterator[tuple[Key, Content]]:
        reasons: dict[Key, str] = dict.fromkeys(wanted, self._limit.why)
        read: list[TableFacts] = []
        samples: tuple[str, ...] = ()
        rules = DigestRules(client_encoding=facts.rules.client_encoding)
        try:
            # Rolled back, so that its settings end with it.
            with self._connection.transaction(force_rollback=True):
                zone = facts.rules.time_zone
                if zone is None:
                    zone = self._recognised(facts.zone_samples)
                    samples = facts.zone_samples if zone is not None else ()
                rules = DigestRules(
                    client_encoding=facts.rules.client_encoding,
                    time_zone=zone or "UTC",
                    server_major=self._connection.info.server_version // 10000,
                )
                for source in self._sources(facts, wanted, rules):
                    key = (source.schema_name, source.name)
                    one = self._digest(source, rules)
                    if isinstance(one, TableFacts):
                        read.append(one)
                    else:
                        reasons[key] = one
        except psycopg.Error as error:
            reasons = dict.fromkeys(wanted, _words(error))
        keys = {(each.schema_name, each.name): each for each in read}
        only = facts.model_copy(
            update={"tables": tuple(each for each in facts.tables if (each.schema_name, each.name) in keys)}
        )
        now = Facts(origin="database", rules=rules, tables=tuple(read), zone_samples=samples)
        comparison = compare(only, now)
        for each in comparison.tables:
            key = (each.schema_name, each.name)
            state: State = "equal" if each.equal else "changed" if each.equal is False else "not compared"
            why = "" if each.equal is not None else _why(comparison, key)
            yield key, Content(state, why, keys[key].rows)
        for key in wanted:
            if key not in keys:
                yield key, Content("not compared", reasons[key])

    def _recognised(self, samples: tuple[str, ...]) -> str | None:
        if samples not in self._zones:
            self._zones[samples] = time_zone.recognise(self._connection, samples)
        return self._zones[samples]

    def _sources(self, facts: Facts, wanted: Sequence[Key], rules: DigestRules) -> list[Source]:
        """The tables, the smallest first, so that as many as possible are compared in time."""
        for name, value in (*PINNED, ("TimeZone", rules.time_zone or "UTC"), ("client_encoding", "UTF8")):
            if not name.endswith("_timeout"):
                self._connection.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        chosen = [
            each
            for each in as_in(self._connection, facts, beyond=False)
            if (each.schema_name, each.name) in set(wanted)
        ]
        return sorted(chosen, key=lambda each: sum(part.pages for part in each.parts))

    def _digest(self, source: Source, rules: DigestRules) -> TableFacts | str:
        """The digest of one table, or the reason why it has none."""
        key = (source.schema_name, source.name)
        memory = (key, rules.time_zone if source.zoned else None, rules.client_encoding, source.columns)
        if memory not in self._read:
            if self._limit.left <= 0:
                return self._limit.why
            self._read[memory] = self._digested(source, rules)
        return self._read[memory]

    def _digested(self, source: Source, rules: DigestRules) -> TableFacts | str:
        connection = self._connection
        copies = [part.copy().as_string(connection) for part in source.parts]
        digest = RowsDigest()
        try:
            with connection.transaction(force_rollback=True):
                milliseconds = f"{max(50, round(self._limit.left * 1000))}ms"
                for name, value in (("statement_timeout", milliseconds), ("client_encoding", rules.client_encoding)):
                    connection.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(value)))
                # Under SQL_ASCII bytes pass unchanged, including those of names in the command.
                codec = "utf-8" if rules.client_encoding == "SQL_ASCII" else connection.info.encoding
                for copy in copies:
                    one = digest_rows(connection, copy.encode(codec), cancelled=self._cancelled)
                    digest = RowsDigest(digest.rows + one.rows, digest.total + one.total)
        except (psycopg.errors.QueryCanceled, Interrupted):
            if self._cancelled():
                raise Interrupted("cannot compare content: interrupted") from None
            return self._limit.why
        except psycopg.Error as error:
            return _words(error)
        return TableFacts(
            schema_name=source.schema_name,
            name=source.name,
            columns=source.columns,
            rows=digest.rows,
            digest=digest.hexdigest(),
            zoned=source.zoned,
        )


def _settled(table: LiveTable, then: TableFacts, *, locked: bool) -> Content | None:
    """The result that needs no reading; None when the table has to be read."""
    if table.unreadable:
        return Content("not compared", f"the server cannot read it: {table.unreadable}")
    if table.exact and table.rows != then.rows:
        return Content("changed")
    if then.columns and not table.partitioned and set(table.columns) != set(then.columns):
        return Content("changed", "its columns differ")
    if table.exact and table.rows == 0 == then.rows:
        return Content("equal", rows=0)
    if locked:
        return Content("not compared", "another session has locked it")
    if then.digest is None:
        return Content("not compared", then.why_no_digest or "the restore point's rows have no digest")
    return None


def _why(comparison: FactsComparison, key: Key) -> str:
    """The reason why the digests of a table could not be compared, as reported by ``compare``."""
    name = f'"{key[0]}.{key[1]}"'
    sentence = next((each for each in comparison.not_compared if name in each), "")
    return sentence.partition(": ")[2].rstrip(".") or "its digests cannot be compared"


def _words(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return "another session has locked it"
    return message_of(error)
