"""JSON objects merged by their top-level keys, where all three sides have one.

A key is decided as a column is: by the image of its value, which also tells a missing key from a null. Key order and
white space of ``json`` are those of ours, with the new keys of theirs after them.
"""

from __future__ import annotations

from typing import Literal

from psycopg import sql

from lastgood.postgres.server import Connection
from lastgood.salvage.staged import Staged, all_of, at, cell, listed, same_value

SHOWN_KEYS = 10
Result = Literal["able", "conflict", "there", "changes", "value"]
_RESULTS: tuple[Result, ...] = ("able", "conflict", "there", "changes", "value")


def merged(staged: Staged, source: sql.Composable, winner: str) -> sql.Composed:
    """The query for the rows ``m`` of ``source`` with the results for each of ``staged.by_key``. ``winner``: the side,
    ``t`` or ``o``, whose value a key in conflict gets."""
    results = [sql.Identifier(_result(staged, column, each)) for column in staged.by_key for each in _RESULTS]
    parts = [_merged(staged, column, winner) for column in staged.by_key]
    return sql.SQL("SELECT {} FROM {} m {}").format(
        listed([sql.SQL("m.*"), *results]), source, sql.SQL(" ").join(parts)
    )


def result(staged: Staged, column: str, what: Result) -> sql.Identifier:
    """A result for one column in a row ``m`` of ``merged``: ``able``, whether its values are merged by key; then
    whether a key is in ``conflict``, all changes of theirs are ``there``, and the merge ``changes`` the value of ours;
    and the merged ``value``."""
    return at("m", _result(staged, column, what))


def conflicting_keys(connection: Connection, staged: Staged, column: str) -> dict[str, int]:
    """The first keys of a column that both sides changed, with the number of rows in which they did."""
    query = sql.SQL("""
        SELECT key, count(*) FROM {} m CROSS JOIN LATERAL {} WHERE m.state = 'update_origin_differs' AND {}
        GROUP BY 1 ORDER BY 2 DESC, key COLLATE "C" LIMIT {}
        """).format(staged.merge, _keys(staged, column), _CONFLICT, sql.Literal(SHOWN_KEYS))
    return dict(connection.execute(query).fetchall())


def _result(staged: Staged, column: str, what: Result) -> str:
    return f"json_{staged.by_key.index(column)}_{what}"


def _merged(staged: Staged, column: str, winner: str) -> sql.Composed:
    value = sql.SQL("CASE WHEN {bt} THEN k.o WHEN {ob} THEN k.t ELSE {winner} END").format(
        **_SAME, winner=at("k", winner)
    )
    found: dict[Result, sql.Composable] = {
        "able": _able(staged, column),
        "conflict": sql.SQL("coalesce(bool_or({}), false)").format(_CONFLICT),
        "there": sql.SQL("coalesce(bool_and({bt} OR {ot}), true)").format(**_SAME),
        "changes": sql.SQL("coalesce(bool_or(NOT {}), false)").format(same_value(value, at("k", "o"))),
        "value": sql.SQL(
            "coalesce({}(k.key, {value} ORDER BY k.o_place, k.t_place) FILTER (WHERE {value} IS NOT NULL), '{{}}')"
        ).format(_function(staged, column, "object_agg"), value=value),
    }
    return sql.SQL("CROSS JOIN LATERAL (SELECT {} FROM {}) {}").format(
        listed(
            sql.SQL("{} AS {}").format(each, sql.Identifier(_result(staged, column, what)))
            for what, each in found.items()
        ),
        _keys(staged, column),
        sql.Identifier(f"of_json_{staged.by_key.index(column)}"),
    )


def _able(staged: Staged, column: str) -> sql.Composed:
    """Whether all three values are objects, none with a key twice, and differ."""
    base, theirs, ours = values = [cell(row, column) for row in "bto"]
    objects = [sql.SQL("{}({}) = 'object'").format(_function(staged, column, "typeof"), each) for each in values]
    differ = [sql.SQL("NOT {}").format(same_value(*pair)) for pair in ((base, theirs), (base, ours), (theirs, ours))]
    unique = [
        sql.SQL("(SELECT count(*) = count(DISTINCT key) FROM pg_catalog.json_object_keys({}) key)").format(each)
        for each in values
        if staged.table.column(column).json == "json"
    ]
    # The second test fails for a value that is no object.
    return sql.SQL("CASE WHEN {} THEN {} ELSE false END").format(all_of([*objects, *differ]), all_of(unique))


def _keys(staged: Staged, column: str) -> sql.Composed:
    """The keys of ours and theirs with the value of each side. There are none where the values are not merged."""
    base, theirs, ours = (
        sql.SQL("{}(CASE WHEN {} THEN {} END) WITH ORDINALITY AS {} (key, {}, {})").format(
            _function(staged, column, "each"),
            _able(staged, column),
            cell(row, column),
            *(sql.Identifier(each) for each in (f"of_{row}", row, f"{row}_place")),
        )
        for row in "bto"
    )
    return sql.SQL("(SELECT * FROM {} FULL JOIN {} USING (key) LEFT JOIN {} USING (key)) k").format(ours, theirs, base)


def _function(staged: Staged, column: str, name: str) -> sql.Identifier:
    return sql.Identifier("pg_catalog", f"{staged.table.column(column).json}_{name}")


_SAME = {f"{one}{other}": same_value(at("k", one), at("k", other)) for one, other in ("bt", "ot", "ob")}
_CONFLICT = sql.SQL("NOT ({bt} OR {ot} OR {ob})").format(**_SAME)
