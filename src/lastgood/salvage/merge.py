"""The three-way merge of one table, by cell, in one statement of the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from lastgood.errors import Refused
from lastgood.postgres.server import Connection
from lastgood.salvage import objects
from lastgood.salvage.policy import Policies
from lastgood.salvage.staged import Staged, all_of, analyze, any_of, at, cell, listed, same, same_value
from lastgood.salvage.tables import Key

VALUE_REQUIRED = "value_required"


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Changes that are left out: ``why``, and the condition on a row ``m`` of ``merge_N``."""

    why: str
    condition: sql.Composable


def decide(connection: Connection, staged: Staged, policies: Policies, excluded: Sequence[Exclusion] = ()) -> None:
    """Create ``merge_N``. Rows of a table without a key have the number of their copies decided."""
    if staged.lacking:
        excluded = [Exclusion(VALUE_REQUIRED, _inserted(staged, policies)), *excluded]
    if staged.key is not None:
        _refuse_ambiguous(connection, staged)
    met = _by_key(staged) if staged.key is not None else _by_image(staged)
    why = sql.SQL(" ").join(
        sql.SQL("WHEN {} THEN {}").format(each.condition, sql.Literal(each.why)) for each in excluded
    )
    # OFFSET 0: else the server would replace each cell of a row by the expression for the whole row, which takes
    # gigabytes for a thousand columns.
    statement = sql.SQL("""
        CREATE TEMP TABLE {merge} ON COMMIT DROP AS
        WITH met AS ({met} OFFSET 0),
        keyed AS ({keyed} OFFSET 0),
        judged AS (SELECT m.*, {state} AS state, {why} AS why FROM keyed m OFFSET 0)
        SELECT row_number() OVER () AS rid, m.kind, m.state, m.image, m.copies, m.b, m.t, m.o, {merged} AS f, m.why,
               CASE WHEN m.why IS NULL THEN {action} END AS action, false AS renumbered
        FROM judged m
        """).format(
        merge=staged.merge,
        met=met,
        keyed=objects.merged(staged, sql.Identifier("met"), _winner(policies)),
        state=_state(staged) if staged.key is not None else sql.SQL("m.counted"),
        why=sql.SQL("CASE {} END").format(why) if excluded else sql.SQL("NULL::text"),
        merged=_merged(staged, policies),
        action=_action(staged, policies),
    )
    connection.execute(statement)
    analyze(connection, staged)


def _inserted(staged: Staged, policies: Policies) -> sql.Composed:
    """Whether a row would be inserted if it is chosen."""
    if staged.key is None or policies.insert_exists == "renumber":
        return sql.SQL("(m.kind = 'insert' OR (m.kind = 'update' AND NOT m.has_o))").format()
    return sql.SQL("(m.kind <> 'delete' AND NOT m.has_o)").format()


def _refuse_ambiguous(connection: Connection, staged: Staged) -> None:
    """The other side may have lost the key's constraint: two of its rows with one key cannot be told apart."""
    assert staged.key is not None
    columns = [sql.Identifier(each) for each in staged.key.columns]
    for kind in ("base", "theirs"):
        row = connection.execute(
            sql.SQL("SELECT count(*), count(DISTINCT ({0})), count(*) FILTER (WHERE {1}) FROM {2}").format(
                listed(columns),
                any_of([sql.SQL("{} IS NULL").format(each) for each in columns]),
                staged.temporary(kind),
            )
        ).fetchone()
        assert row is not None
        rows, keys, nulls = row
        if rows != keys or nulls:
            raise Refused(
                f'cannot salvage table "{staged.table.shown}": several of its rows in the kept '
                f"database have the same key ({', '.join(staged.key.columns)})",
                hint=f"Leave the table out: --exclude {staged.table.shown}",
            )


def _by_key(staged: Staged) -> sql.Composed:
    """The rows of base, theirs and ours with one key each: ``b``, ``t``, ``o``."""
    assert staged.key is not None
    numbered = [f"key_{number}" for number, _ in enumerate(staged.key.columns)]
    return sql.SQL("""
        SELECT CASE WHEN j.has_t AND j.has_b THEN 'update' WHEN j.has_t THEN 'insert' ELSE 'delete' END AS kind,
               NULL::text AS counted, NULL::text AS image, NULL::int8 AS copies, j.b, j.t, {there} AS has_o,
               CASE WHEN {there} THEN {ours} END AS o
        FROM (SELECT b.r AS b, t.r AS t, b.r IS DISTINCT FROM NULL AS has_b, t.r IS DISTINCT FROM NULL AS has_t,
                     {either}
              FROM (SELECT {base_row} AS r, {base_keys} FROM {base} b) b
              FULL JOIN (SELECT {their_row} AS r, {their_keys} FROM {theirs} t) t ON {both}) j
        LEFT JOIN {live} o ON {ours_too}
        """).format(
        there=sql.SQL("{} IS NOT NULL").format(at("o", staged.key.columns[0])),
        ours=staged.typed(staged.row("o")),
        base=staged.temporary("base"),
        theirs=staged.temporary("theirs"),
        base_row=staged.typed(staged.row("b")),
        their_row=staged.typed(staged.row("t")),
        base_keys=_keys("b", staged.key),
        their_keys=_keys("t", staged.key),
        either=listed(
            sql.SQL("coalesce({0}, {1}) AS {2}").format(at("t", each), at("b", each), sql.Identifier(each))
            for each in numbered
        ),
        both=all_of(
            [
                each.between(at("b", one), at("t", one))
                for one, each in zip(numbered, staged.key.equalities, strict=True)
            ]
        ),
        live=staged.table.rows,
        ours_too=all_of(
            [
                equality.between(at("o", name), at("j", one))
                for one, name, equality in zip(numbered, staged.key.columns, staged.key.equalities, strict=True)
            ]
        ),
    )


def _keys(alias: str, key: Key) -> sql.Composed:
    return listed(
        sql.SQL("{} AS {}").format(at(alias, name), sql.Identifier(f"key_{number}"))
        for number, name in enumerate(key.columns)
    )


def _by_image(staged: Staged) -> sql.Composed:
    """One row for each copy that was added or removed between base and theirs. Copies that ours has added or removed
    itself are ``there`` already."""

    def counted(source: sql.Composable, alias: str, *, row: bool) -> sql.Composed:
        whole = staged.typed(staged.row(alias))
        return sql.SQL("SELECT {image} AS image, count(*) AS n{row} FROM {source} {alias} {where} GROUP BY 1").format(
            image=staged.image(alias),
            row=sql.SQL(", (array_agg({}))[1] AS r").format(whole) if row else sql.SQL(""),
            source=source,
            alias=sql.Identifier(alias),
            where=sql.SQL("")
            if row
            else sql.SQL("WHERE {} IN (SELECT image FROM t UNION ALL SELECT image FROM b)").format(staged.image(alias)),
        )

    return sql.SQL("""
        SELECT CASE WHEN p.t > p.b THEN 'insert' ELSE 'delete' END AS kind,
               CASE WHEN copy <= CASE WHEN p.t > p.b THEN p.t - greatest(p.o, p.b) ELSE least(p.o, p.b) - p.t END
                    THEN 'ready' ELSE 'there' END AS counted,
               p.image, p.o AS copies, CASE WHEN p.t < p.b THEN p.r END AS b,
               CASE WHEN p.t > p.b THEN p.r END AS t, p.o > 0 AS has_o,
               NULL::{type} AS o
        FROM (WITH t AS ({theirs}), b AS ({base}), o AS ({ours})
              SELECT coalesce(t.image, b.image) AS image, coalesce(t.r, b.r) AS r, coalesce(t.n, 0) AS t,
                     coalesce(b.n, 0) AS b, coalesce(o.n, 0) AS o
              FROM t FULL JOIN b ON t.image = b.image LEFT JOIN o ON o.image = coalesce(t.image, b.image)) p
        CROSS JOIN LATERAL generate_series(1, abs(p.t - p.b)) copy
        """).format(
        type=staged.temporary("theirs"),
        theirs=counted(staged.temporary("theirs"), "t", row=True),
        base=counted(staged.temporary("base"), "b", row=True),
        ours=counted(staged.table.rows, "o", row=False),
    )


def _state(staged: Staged) -> sql.Composed:
    """How a change meets the row in ours."""
    return sql.SQL("""
        CASE m.kind
        WHEN 'insert' THEN CASE WHEN NOT m.has_o THEN 'ready' WHEN {o_t} THEN 'there' ELSE 'insert_exists' END
        WHEN 'update' THEN
          CASE WHEN NOT m.has_o THEN 'update_missing' WHEN {o_b} THEN 'ready' WHEN {o_t} THEN 'there'
               WHEN {conflict} THEN 'update_origin_differs' WHEN {there} THEN 'there' ELSE 'ready' END
        ELSE CASE WHEN NOT m.has_o THEN 'there' WHEN {o_b} THEN 'ready' ELSE 'delete_origin_differs' END
        END
        """).format(
        o_t=same(sql.SQL("m.o"), sql.SQL("m.t")),
        o_b=same(sql.SQL("m.o"), sql.SQL("m.b")),
        conflict=any_of([_conflict(staged, each) for each in staged.columns]),
        there=all_of([_there(staged, each) for each in staged.columns]),
    )


def _conflict(staged: Staged, column: str) -> sql.Composed:
    """Whether both sides changed a cell, in different ways."""
    base, theirs, ours = (cell(row, column) for row in "bto")
    differ = sql.SQL("NOT ({} OR {} OR {})").format(
        same_value(base, theirs), same_value(ours, theirs), same_value(ours, base)
    )
    return _by_object(staged, column, "conflict", differ)


def _there(staged: Staged, column: str) -> sql.Composed:
    """Whether ours has the change of a cell already."""
    base, theirs, ours = (cell(row, column) for row in "bto")
    return _by_object(
        staged, column, "there", sql.SQL("({} OR {})").format(same_value(base, theirs), same_value(ours, theirs))
    )


def _by_object(staged: Staged, column: str, what: objects.Result, otherwise: sql.Composed) -> sql.Composed:
    if column not in staged.by_key:
        return otherwise
    able, found = (objects.result(staged, column, each) for each in ("able", what))
    return sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(able, found, otherwise)


def _winner(policies: Policies) -> str:
    """The side that gets its way in a conflict."""
    return "t" if policies.update_origin_differs == "theirs" else "o"


def _merged(staged: Staged, policies: Policies) -> sql.Composed:
    """The row after the merge. Cells that only one side changed are that side's."""
    if staged.key is None:
        return sql.Composed([sql.SQL("m.t")])
    cells = [
        sql.SQL("CASE WHEN {} THEN {} WHEN {} THEN {} {} ELSE {} END").format(
            same_value(cell("b", column), cell("t", column)),
            cell("o", column),
            same_value(cell("o", column), cell("b", column)),
            cell("t", column),
            _object(staged, column),
            cell(_winner(policies), column),
        )
        for column in staged.columns
    ]
    return sql.SQL("""
        CASE WHEN m.kind = 'delete' THEN NULL
             WHEN m.kind = 'insert' OR NOT m.has_o OR {untouched} THEN m.t
             ELSE {cells} END
        """).format(
        untouched=same(sql.SQL("m.o"), sql.SQL("m.b")),
        cells=staged.typed(sql.SQL("ROW({})").format(listed(cells))),
    )


def _object(staged: Staged, column: str) -> sql.Composed:
    """The branch for a cell that is merged by key. Where nothing changes, the value of ours is kept to the byte."""
    if column not in staged.by_key:
        return sql.Composed([])
    able, changes, value = (objects.result(staged, column, each) for each in ("able", "changes", "value"))
    return sql.SQL("WHEN {} THEN CASE WHEN {} THEN {} ELSE {} END").format(able, changes, value, cell("o", column))


def can_renumber(staged: Staged) -> bool:
    """Whether a row can get a new key: a single integer that a sequence counts."""
    if staged.key is None or len(staged.key.columns) != 1:
        return False
    column = staged.table.column(staged.key.columns[0])
    return column.integer and column.sequence is not None


def _action(staged: Staged, policies: Policies) -> sql.Composed:
    """What is done with a row: ``insert``, ``update``, ``delete`` or nothing."""
    decided = {("insert", "ready"): "insert", ("update", "ready"): "update", ("delete", "ready"): "delete"}
    if policies.insert_exists == "theirs":
        decided["insert", "insert_exists"] = "update"
    elif policies.insert_exists == "renumber" and can_renumber(staged):
        decided["insert", "insert_exists"] = "insert"
    if policies.update_missing == "theirs":
        decided["update", "update_missing"] = "insert"
    if policies.update_origin_differs in ("ours", "theirs"):
        decided["update", "update_origin_differs"] = "update"
    if policies.delete_origin_differs == "theirs":
        decided["delete", "delete_origin_differs"] = "delete"
    whens = sql.SQL(" ").join(
        sql.SQL("WHEN m.kind = {} AND m.state = {} THEN {}").format(*(sql.Literal(each) for each in (*pair, action)))
        for pair, action in decided.items()
    )
    return sql.SQL("CASE {} END").format(whens)


def conflicts(connection: Connection, staged: Staged) -> dict[str, int]:
    """The columns that both sides changed, with the number of rows in which they did."""
    if staged.key is None:
        return {}
    counts = [sql.SQL("count(*) FILTER (WHERE {})").format(_conflict(staged, column)) for column in staged.columns]
    row = connection.execute(
        sql.SQL("SELECT {} FROM ({}) m WHERE m.state = 'update_origin_differs'").format(
            listed(counts), objects.merged(staged, staged.merge, "o")
        )
    ).fetchone()
    assert row is not None
    return {column: count for column, count in zip(staged.columns, row, strict=True) if count}
