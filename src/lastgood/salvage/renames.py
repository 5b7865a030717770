"""What a migration renamed: named by the user, or proposed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from lastgood.difference import Comparison, NewNames
from lastgood.dump.names import Relation, parse
from lastgood.errors import UsageError
from lastgood.salvage.tables import Name, Table


def new_names(given: Iterable[str], tables: Mapping[Name, Table]) -> NewNames:
    """The names from ``NEW=OLD`` for tables and ``TABLE.NEW=OLD`` for columns, where TABLE is a table of the live
    database. Raises UsageError."""
    of_tables: dict[Relation, Relation] = {}
    of_columns: dict[Relation, dict[str, str]] = defaultdict(dict)
    for text in given:
        new, _, old = (part.strip() for part in text.partition("="))
        columns = [*_columns(new, old, tables.values())]
        parents = [each for each in tables.values() if old in (each.shown, each.name)]
        if len(columns) == 1:
            table, name = columns[0]
            of_columns[Relation(table.schema, table.name)][name] = old
        elif len(parents) == 1 and new and not columns:
            (table,) = parents
            schema, dot, name = new.partition(".")
            relation = Relation(schema, name) if dot else Relation(table.schema, new)
            of_tables[relation] = Relation(table.schema, table.name)
        else:
            several = len(columns) > 1 or len(parents) > 1
            why = "several tables match" if several else f'the live database has no such table or column "{old}"'
            raise UsageError(
                f'cannot use --renamed "{text}": {why}',
                hint="Examples: --renamed public.people=public.contacts for a table, "
                "--renamed public.contacts.mail=email for a column.",
            )
    return NewNames(of_tables, of_columns)


def _columns(new: str, old: str, tables: Iterable[Table]) -> Iterator[tuple[Table, str]]:
    """The tables with the column ``old`` that ``new`` begins with, and what follows in it."""
    for each in tables:
        for prefix in (f"{each.shown}.", f"{each.name}."):
            if old in each.stored and new.startswith(prefix) and (name := new.removeprefix(prefix)):
                yield each, name
                break


def of_tables(found: Comparison) -> tuple[dict[Name, str], frozenset[Name]]:
    """Proposals for tables: the new names, with the option's text; and the old names."""
    proposals: dict[Name, str] = {}
    old_names = set()
    for each in found.renames:
        old, new = parse(each.a, ""), parse(each.b, "")
        if old is not None and new is not None:
            proposals[new.schema, new.name] = f"{new.schema}.{new.name}={old.schema}.{old.name}"
            old_names.add((old.schema, old.name))
    return proposals, frozenset(old_names)
