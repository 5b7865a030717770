"""Rows that were written again after the migration: which of their cells still have the migration's value.

The kept database shows who wrote a row last, not who wrote each of its cells. What the migration did to a column is
inferred from the rows that it wrote last: a constant, a text around the value of a column, a sum or a product, keys of
JSON objects that it set or removed. A cell
of a later row with the value that this gives is the migration's; any other is the user's. Where nothing explains the
migration's values, the author of a cell is unknown, and the plan counts it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

import psycopg
from psycopg import sql

from lastgood.postgres.server import Connection
from lastgood.salvage.staged import Changed, Migrated, Staged, Written, all_of, any_of, cell, listed, same_value

TENTH, HUNDREDTH = 10, 100
# Fewer rows explain nothing: several rules would fit them.
SUPPORT = 3
# So many rows for each of the values that a migration wrote: then it wrote no others.
REPEATED = 10
SAMPLES, CANDIDATES, SOURCES, LONGEST = 20, 8, 40, 1000
NUMBERS_SHOWN = 5

_TRANSFORMED = ("{}", "pg_catalog.lower({})", "pg_catalog.upper({})", "pg_catalog.initcap({})", "pg_catalog.btrim({})")


def again(staged: Staged) -> sql.Identifier:
    """The table of rows that were written since the migration began: ``b`` and ``t`` as in ``merge_N``, the ``number``
    of the transaction, whether it is the ``migration``'s, and whether the author of a cell is ``unknown``."""
    return staged.temporary("again")


def is_unknown(staged: Staged) -> sql.Composed:
    """Whether a row ``m`` of ``merge_N`` has a cell whose author is unknown."""
    assert staged.key is not None
    match = staged.same_cells(lambda name: cell("t", name, "a"), lambda name: cell("t", name))
    return sql.SQL("EXISTS (SELECT FROM {} a WHERE a.unknown AND {})").format(again(staged), match)


def without_migrated(connection: Connection, staged: Staged, changed: Changed, wanted: Collection[str]) -> Staged:
    """Give the cells of later rows that are the migration's, or of an unknown author, their values of base. ``wanted``:
    columns that are taken as they are. Return the table with the numbers of such rows by column."""
    if changed.written is None or staged.key is None:
        return staged
    _pair(connection, staged, changed.written)
    found = tuple(
        _reset(connection, staged, name) for name in _written_by_both(connection, staged) if name not in wanted
    )
    return replace(staged, migrated=tuple(each for each in found if each.rows or each.unknown))


def _pair(connection: Connection, staged: Staged, written: Written) -> None:
    connection.execute(
        sql.SQL("""
        CREATE TEMP TABLE {again} ON COMMIT DROP AS
        SELECT {their_row} AS t, {base_row} AS b, w.{number} AS number, {migration} AS migration, false AS unknown
        FROM {theirs} t JOIN {base} b ON {same_key} JOIN {written} w ON {same_row}
        WHERE NOT w.{number} = ANY ({taken}::int8[])
        """).format(
            again=again(staged),
            their_row=staged.typed(staged.row("t")),
            base_row=staged.typed(staged.row("b")),
            number=sql.Identifier(written.number),
            migration=written.by_migration("w"),
            theirs=staged.temporary("theirs"),
            base=staged.temporary("base"),
            written=staged.temporary("written"),
            same_key=staged.same_key("t", "b"),
            same_row=staged.same_key("w", "t"),
            taken=sql.Literal(list(written.taken)),
        )
    )
    # What was written before the migration reached the table is the user's.
    connection.execute(
        sql.SQL(
            "DELETE FROM {0} a WHERE NOT a.migration AND a.number < (SELECT min(number) FROM {0} WHERE migration)"
        ).format(again(staged))
    )
    connection.execute(sql.SQL("ANALYZE {} (number, migration)").format(again(staged)))


def _differs(name: str) -> sql.Composed:
    return sql.SQL("NOT {}").format(same_value(cell("t", name, "a"), cell("b", name, "a")))


def _written_by_both(connection: Connection, staged: Staged) -> list[str]:
    """The columns that the migration changed in a tenth of its rows, and that differ in later rows. Of fewer rows, a
    user may have changed them before the migration wrote to the row."""

    def numbers(condition: str) -> sql.Composed:
        counts = (
            sql.SQL("count(*) FILTER (WHERE {} AND {})").format(sql.SQL(condition), _differs(name))
            for name in staged.columns
        )
        return sql.SQL("ARRAY[{}]").format(listed(counts))  # a target list is limited to 1664 entries

    row = connection.execute(
        sql.SQL("SELECT count(*) FILTER (WHERE migration), {}, {} FROM {} a").format(
            numbers("migration"), numbers("NOT migration"), again(staged)
        )
    ).fetchone()
    assert row is not None  # an aggregate always gives a row
    rows, migration, later = row
    return [
        name
        for name, changes, cells in zip(staged.columns, migration, later, strict=True)
        if cells and changes * TENTH >= max(rows, 1)
    ]


def _reset(connection: Connection, staged: Staged, name: str) -> Migrated:
    """Reset one column."""
    exact = _rules(connection, staged, name)
    keys = _keys(connection, staged, name) if staged.table.column(name).json else None
    if keys is not None and _explains(connection, staged, name, keys.rule()):
        exact.append(keys.rule())
    else:
        keys = None
    value = _text(cell("t", name, "a"))
    values = _values(connection, staged, name)
    if values is not None and len(values) == 1:
        exact.append(_constant(values[0]))
    if exact:
        mine, unknown = any_of([_equal(value, rule) for rule in exact]), sql.SQL("false").format()
    elif values is not None:
        mine, unknown = sql.SQL("false").format(), any_of([_equal(value, _constant(each)) for each in values])
    else:
        mine, unknown = sql.SQL("false").format(), sql.SQL("true").format()
    later = sql.SQL("NOT a.migration AND {}").format(_differs(name))
    before = cell("b", name, "a")
    rows = _back(connection, staged, name, sql.SQL("{} AND {}").format(later, mine), before)
    if keys is not None and staged.table.column(name).json == "jsonb":
        some = sql.SQL("{} AND NOT {} AND {} <> {}").format(later, mine, keys.without(), _object("t", name))
        rows += _back(connection, staged, name, some, keys.without())
    hidden = sql.SQL("{} AND {}").format(later, unknown)
    count = _back(connection, staged, name, hidden, before)
    numbers: tuple[int, ...] = ()
    if count:
        query = sql.SQL("SELECT DISTINCT a.number FROM {} a WHERE {} ORDER BY 1 LIMIT {}").format(
            again(staged), hidden, sql.Literal(NUMBERS_SHOWN)
        )
        numbers = tuple(int(number) for (number,) in connection.execute(query))
        connection.execute(sql.SQL("UPDATE {} a SET unknown = true WHERE {}").format(again(staged), hidden))
    return Migrated(name, rows, count, numbers)


def _back(connection: Connection, staged: Staged, name: str, condition: sql.Composable, value: sql.Composable) -> int:
    """Give a column of the rows that meet a condition a value. Return their number."""
    match = staged.same_cells(lambda each: sql.Identifier("t", each), lambda each: cell("t", each, "a"))
    return connection.execute(
        sql.SQL("UPDATE {} t SET {} = {} FROM {} a WHERE {} AND {}").format(
            staged.temporary("theirs"),
            sql.Identifier(name),
            value,
            again(staged),
            condition,
            match,
        )
    ).rowcount


def _text(value: sql.Composable) -> sql.Composed:
    return sql.SQL('({}::text COLLATE "C")').format(value)


def _equal(value: sql.Composable, other: sql.Composable) -> sql.Composed:
    return sql.SQL("({} IS NOT DISTINCT FROM {})").format(value, other)


def _constant(value: str | None) -> sql.Composed:
    return _text(sql.SQL("{}").format(sql.Literal(value)))


def _of_migration(staged: Staged, name: str) -> sql.Composed:
    """The rows that show what the migration did to a column."""
    return sql.SQL("{} a WHERE a.migration AND {}").format(again(staged), _differs(name))


def _values(connection: Connection, staged: Staged, name: str) -> list[str | None] | None:
    """The few values that the migration wrote, each many times; None if it wrote many different ones."""
    query = sql.SQL("""
        SELECT v, sum(n) OVER (), count(*) OVER () FROM (SELECT {} AS v, count(*) AS n FROM {} GROUP BY 1) g LIMIT {}
        """).format(_text(cell("t", name, "a")), _of_migration(staged, name), sql.Literal(HUNDREDTH))
    found = connection.execute(query).fetchall()
    if not found or found[0][2] > HUNDREDTH or found[0][1] < REPEATED * found[0][2]:
        return None
    return [value for value, _, _ in found]


def _rules(connection: Connection, staged: Staged, name: str) -> list[sql.Composed]:
    """Expressions on a row ``a`` that give the value which the migration wrote, in all but a hundredth of its rows."""
    value = cell("t", name, "a")
    sources = _sources(staged, name)
    query = sql.SQL("SELECT {}, ARRAY[{}] FROM {} AND coalesce(length({}), 0) <= {} LIMIT {}").format(
        _text(value),
        listed(sql.SQL("left({}, {})").format(each, sql.Literal(LONGEST + 1)) for each in sources),
        _of_migration(staged, name),
        _text(value),
        sql.Literal(LONGEST),
        sql.Literal(SAMPLES),
    )
    samples = connection.execute(query).fetchall()
    found = [
        *_around(sources, samples),
        *(_computed(staged, name, samples) if staged.table.column(name).number else ()),
    ][:CANDIDATES]
    return [rule for rule in found if _explains(connection, staged, name, rule)]


def _sources(staged: Staged, name: str) -> list[sql.Composed]:
    """Texts of a row that the migration may have used: its own column before, and the others."""
    own = [sql.SQL(form).format(_plain("b", name)) for form in _TRANSFORMED]
    others = [each for each in staged.columns if each != name][:SOURCES]
    return [_text(each) for each in (*own, *(_plain(row, other) for other in others for row in "tb"))]


def _plain(row: str, name: str) -> sql.Composed:
    return sql.SQL("{}::text").format(cell(row, name, "a"))


_Samples = Sequence[tuple[str | None, list[str | None]]]


def _around(sources: Sequence[sql.Composed], samples: _Samples) -> Iterator[sql.Composed]:
    """A text before and a text after the value of a source, as in ``'lost-' || id``."""
    value, first = next(((value, texts) for value, texts in samples if value), (None, []))
    if value is None:
        return
    for place, text in enumerate(first):
        for at in range(len(value)) if text else ():
            if not value.startswith(text or "", at):
                continue
            before, after = value[:at], value[at + len(text or "") :]
            if all(
                other == (None if texts[place] is None else f"{before}{texts[place]}{after}")
                for other, texts in samples
            ):
                yield _text(sql.SQL("({} || {} || {})").format(sql.Literal(before), sources[place], sql.Literal(after)))


def _computed(staged: Staged, name: str, samples: _Samples) -> Iterator[sql.Composed]:
    """A sum with, or a product by, a constant."""
    try:
        pairs = [(Decimal(texts[0]), Decimal(value)) for value, texts in samples if value and texts[0]]
        largest = max(pairs, key=lambda pair: abs(pair[0]), default=(Decimal(0), Decimal(0)))
        added = largest[1] - largest[0]
        factor = round(largest[1] / largest[0], 4).normalize() if largest[0] else Decimal(0)
        unit = Decimal(1).scaleb(min((int(value.as_tuple().exponent) for _, value in pairs), default=0))
        fits = [(old * factor).quantize(unit, ROUND_HALF_UP) == value for old, value in pairs]
    except (InvalidOperation, TypeError, ValueError):
        return
    old, kind = cell("b", name, "a"), sql.SQL(staged.table.column(name).type)
    if pairs and all(value - before == added for before, value in pairs):
        yield _text(sql.SQL("({}::numeric + {})::{}").format(old, sql.Literal(added), kind))
    if pairs and factor and all(fits):
        places = sql.Literal(-int(unit.as_tuple().exponent))
        yield _text(sql.SQL("round({}::numeric * {}, {})::{}").format(old, sql.Literal(factor), places, kind))


@dataclass(frozen=True, slots=True)
class _Keys:
    """Top-level keys of an object that the migration ``set`` to constants, as texts of JSON, or removed (``gone``), as
    in ``data || '{"v": 2}'`` or ``data - 'old'``."""

    staged: Staged
    name: str
    set: tuple[tuple[str, str], ...]
    gone: tuple[str, ...]

    def rule(self) -> sql.Composed:
        """The value that this gives."""
        before = _object("b", self.name)
        return _text(
            sql.SQL("CASE WHEN {} THEN ({} - {}::text[]) || {} END").format(
                _is_object(before), before, sql.Literal([*self.gone]), self._constants()
            )
        )

    def without(self) -> sql.Composed:
        """A later value with these keys as they were before, where it still has the migration's."""
        before, after = _object("b", self.name), _object("t", self.name)
        query = sql.SQL("""
            (SELECT coalesce(pg_catalog.jsonb_object_agg(key, value), '{{}}') FROM (
               SELECT key, value FROM pg_catalog.jsonb_each({after})
               WHERE NOT coalesce({constants} -> key = value, false)
               UNION ALL SELECT key, value FROM pg_catalog.jsonb_each({before})
               WHERE {constants} -> key = {after} -> key OR (key = ANY ({gone}::text[]) AND {after} -> key IS NULL)) k)
            """).format(before=before, after=after, constants=self._constants(), gone=sql.Literal([*self.gone]))
        objects = all_of([_is_object(before), _is_object(after)])
        return sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(objects, query, after)

    def _constants(self) -> sql.Composed:
        return sql.SQL("pg_catalog.jsonb_build_object({})").format(
            listed(
                sql.SQL("{}::text, {}::pg_catalog.jsonb").format(sql.Literal(key), sql.Literal(value))
                for key, value in self.set
            )
        )


def _object(row: str, name: str) -> sql.Composed:
    return sql.SQL("{}::pg_catalog.jsonb").format(cell(row, name, "a"))


def _is_object(value: sql.Composable) -> sql.Composed:
    return sql.SQL("pg_catalog.jsonb_typeof({}) = 'object'").format(value)


def _keys(connection: Connection, staged: Staged, name: str) -> _Keys | None:
    """The keys that the migration set or removed in a column; None if it gave one of them several values."""
    before, after = _object("b", name), _object("t", name)
    rows = connection.execute(
        sql.SQL("""
        SELECT key, min(t.value::text), count(DISTINCT t.value::text) + count(DISTINCT t.value IS NULL) > 2
        FROM (SELECT a.* FROM {rows}) a CROSS JOIN LATERAL (
          SELECT key, t.value FROM pg_catalog.jsonb_each(CASE WHEN {objects} THEN {before} END) b
          FULL JOIN pg_catalog.jsonb_each(CASE WHEN {objects} THEN {after} END) t USING (key)
          WHERE b.value IS DISTINCT FROM t.value) t
        GROUP BY 1 LIMIT {limit}
        """).format(
            rows=_of_migration(staged, name),
            objects=all_of([_is_object(before), _is_object(after)]),
            before=before,
            after=after,
            limit=sql.Literal(SOURCES + 1),
        )
    ).fetchall()
    if not rows or len(rows) > SOURCES or any(several for _, _, several in rows):
        return None
    constants = tuple((key, value) for key, value, _ in rows if value is not None)
    return _Keys(staged, name, constants, tuple(key for key, value, _ in rows if value is None))


def _explains(connection: Connection, staged: Staged, name: str, rule: sql.Composed) -> bool:
    query = sql.SQL("SELECT count(*), count(*) FILTER (WHERE NOT {}) FROM {}").format(
        _equal(_text(cell("t", name, "a")), rule), _of_migration(staged, name)
    )
    # The rule may not be computable for each row (an overflow): then it is not the migration's.
    with suppress(psycopg.DataError), connection.transaction():
        row = connection.execute(query).fetchone()
        return row is not None and row[0] >= SUPPORT and row[1] * HUNDREDTH <= row[0]
    return False
