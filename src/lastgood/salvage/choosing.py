"""The choice of rows as SQL: what is left out of a merge, and why."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

import pglast
from psycopg import sql

from lastgood.errors import UsageError
from lastgood.salvage import migrated
from lastgood.salvage.merge import Exclusion
from lastgood.salvage.plan import Chosen
from lastgood.salvage.references import NOT_CHOSEN
from lastgood.salvage.rows import NO_NAMES, NamedRows, is_among
from lastgood.salvage.staged import Changed, Staged, all_of, cell, same
from lastgood.salvage.tables import Name, Table

_T, _B = sql.SQL("m.t"), sql.SQL("m.b")
MIGRATION = "migration"
DELETION = "deletion"
UNKNOWN = "unknown author"
Wrote = Callable[[Staged], sql.Composed]


def chosen_tables(chosen: Chosen, tables: Mapping[Name, Table]) -> frozenset[Name]:
    """The tables whose rows are wanted. Raises UsageError for a pattern that matches none."""

    def matching(pattern: str) -> set[Name]:
        found = {
            name
            for name, each in tables.items()
            if pattern in (each.shown, name[1])  # a name may have brackets
            or fnmatch.fnmatchcase(each.shown, pattern)
            or ("." not in pattern and fnmatch.fnmatchcase(name[1], pattern))
        }
        if not found:
            raise UsageError(
                f'cannot salvage rows: no table of the live database matches "{pattern}"',
                hint="Names are case-sensitive, with or without the schema, and may have * and ?.",
            )
        return found

    wanted = {name for pattern in chosen.tables for name in matching(pattern)} or set(tables)
    left = wanted - {name for pattern in chosen.exclude for name in matching(pattern)}
    if wanted and not left:
        raise UsageError(
            "cannot salvage rows: every chosen table is excluded",
            hint="Leave out --exclude, or choose other tables with --table.",
        )
    return frozenset(left)


def idle_exclusions(chosen: Chosen, tables: Mapping[Name, Table]) -> list[str]:
    """The patterns of ``exclude`` that leave out none of the tables that are named."""
    named = chosen_tables(Chosen(tables=chosen.tables), tables)
    return [each for each in chosen.exclude if named.isdisjoint(chosen_tables(Chosen(tables=(each,)), tables))]


def refuse_contradiction(chosen: Chosen) -> None:
    """Raise UsageError for a transaction whose rows are both taken and left out."""
    for number in chosen.transactions:
        if number in chosen.without_transactions:
            raise UsageError(
                f"cannot both take and leave out the rows of transaction {number}",
                hint=f"Leave out --transaction {number} or --without-transaction {number}.",
            )


def chosen_columns(given: Iterable[str], tables: Mapping[Name, Table]) -> dict[Name, frozenset[str]]:
    """The columns by table from ``TABLE.COLUMN``. Raises UsageError for one that no table has."""
    found: dict[Name, set[str]] = defaultdict(set)
    for text in given:
        matching = [
            (name, column)
            for name, each in tables.items()
            for column in each.stored
            if text in (f"{each.shown}.{column}", f"{each.name}.{column}")
        ]
        if not matching:
            raise UsageError(
                f'cannot salvage rows: no table of the live database has the column "{text}"',
                hint="Names are case-sensitive: TABLE.COLUMN, or SCHEMA.TABLE.COLUMN.",
            )
        for name, column in matching:
            found[name].add(column)
    return {name: frozenset(columns) for name, columns in found.items()}


def json_columns(given: Iterable[str], tables: Mapping[Name, Table]) -> dict[Name, frozenset[str]]:
    """The columns by table whose objects are merged by key. Raises UsageError for one whose values are not JSON, and in
    a table without a key."""
    found = chosen_columns(given, tables)
    for name, columns in found.items():
        table = tables[name]
        for column in sorted(columns):
            if not table.column(column).json or table.key is None:
                why = "its type is neither json nor jsonb" if table.key is not None else "its table has no key"
                raise UsageError(
                    f'cannot merge column "{table.shown}.{column}" by JSON keys: {why}',
                    hint="Without --merge-json, the values of this column are merged as a whole.",
                )
    return found


def with_ancestors(wanted: frozenset[Name], tables: Mapping[Name, Table]) -> frozenset[Name]:
    """The tables, and all to which they refer: whether a reference holds depends on them."""
    by_oid = {each.oid: name for name, each in tables.items()}
    found, new = set(wanted), set(wanted)
    while new:
        new = {by_oid[key.parent] for name in new for key in tables[name].parents} - found
        found |= new
    return frozenset(found)


def exclusions(
    chosen: Chosen,
    changed: Changed,
    wanted: frozenset[Name],
    conditions: Mapping[Name, str],
    named: Mapping[Name, NamedRows],
    wrote: Wrote | None,
) -> list[Exclusion]:
    """What is left out of one table, in the order in which it is tested. ``wrote``: whether a chosen user or
    transaction wrote a row ``m`` of ``merge_N``."""
    table = changed.table
    name = (table.schema, table.name)
    if name not in wanted:
        return [Exclusion(NOT_CHOSEN, sql.SQL("true"))]
    found = []
    staged = Staged(table, changed.number, changed.columns)
    rows = named.get(name, NO_NAMES)
    if rows.only is not None:
        found.append(Exclusion(NOT_CHOSEN, sql.SQL("NOT {}").format(is_among(staged, rows.only))))
    if rows.without:
        found.append(Exclusion(NOT_CHOSEN, is_among(staged, rows.without)))
    if changed.written is not None and not chosen.migration:
        if rows.only is None:
            written = staged.written_last(changed.written)
            found.append(Exclusion(MIGRATION, sql.SQL("(m.kind <> 'delete' AND {})").format(written)))
        # Nothing is left of the change without the migration's values.
        nothing = sql.SQL("(m.kind = 'update' AND {})").format(same(_T, _B))
        if staged.key is not None:
            found.append(Exclusion(UNKNOWN, sql.SQL("({} AND {})").format(nothing, migrated.is_unknown(staged))))
        found.append(Exclusion(MIGRATION, nothing))
    if rows.only is not None:
        return found
    if name in conditions:
        found.append(Exclusion(NOT_CHOSEN, sql.SQL("NOT coalesce({}, false)").format(_holds(conditions[name]))))
    if wrote is not None:
        found.append(Exclusion(NOT_CHOSEN, sql.SQL("NOT {}").format(wrote(staged))))
    found += [Exclusion(NOT_CHOSEN, each) for each in _outside(chosen, changed)]
    if not chosen.deletes:  # the last one, so that the plan counts only those of the choice
        found.append(Exclusion(DELETION, sql.SQL("m.kind = 'delete'")))
    return found


def conditions(chosen: Chosen, tables: Mapping[Name, Table]) -> dict[Name, str]:
    """The SQL conditions by table. Raises UsageError for one that is no single expression."""
    found: dict[Name, str] = {}
    for pattern, condition in chosen.where.items():
        if not _expression(condition):
            raise UsageError(
                f'cannot use the condition "{condition}": it is not one SQL expression',
                hint="""Example: --where "contacts: created_at > '2026-01-12'".""",
            )
        for name in chosen_tables(Chosen(tables=(pattern,)), tables):
            found[name] = condition
    return found


def _expression(text: str) -> bool:
    """Whether a text is one expression: with parentheses around it, and without, which it may not close itself."""
    try:
        return all(len(pglast.parse_sql(f"SELECT WHERE {form}")) == 1 for form in (text, f"({text}\n)"))
    except pglast.Error:
        return False


def _holds(condition: str) -> sql.Composed:
    """Whether the row of theirs, or the deleted one of base, meets a condition on its columns."""
    return sql.SQL("(SELECT ({}\n) FROM (SELECT (coalesce(m.t, m.b)).*) AS changed_row)").format(
        sql.SQL(condition),
    )


def dated_columns(changed: Changed) -> list[str]:
    """The columns of a table by which a time span chooses its rows."""
    return [each.name for each in changed.table.columns if each.dated and each.name in changed.columns]


def _outside(chosen: Chosen, changed: Changed) -> Iterator[sql.Composed]:
    """Whether no time stamp that theirs wrote is within the time span."""
    if chosen.since is None and chosen.until is None:
        return
    dated = dated_columns(changed)
    within = [
        all_of(
            [
                sql.SQL("NOT {}").format(
                    same(sql.SQL("ROW({})").format(cell("t", name)), sql.SQL("ROW({})").format(cell("b", name)))
                ),
                *(
                    sql.SQL("{} {} {}::timestamptz").format(cell("t", name), sql.SQL(operator), sql.Literal(limit))
                    for operator, limit in ((">=", chosen.since), ("<", chosen.until))
                    if limit is not None
                ),
            ]
        )
        for name in dated
    ]
    yield sql.SQL("NOT coalesce({}, false)").format(
        sql.SQL("({})").format(sql.SQL(" OR ").join(within)) if within else sql.SQL("false")
    )
