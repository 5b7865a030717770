"""Extensions that differ from those of the source server: their versions, schemas and members."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import psycopg
from psycopg import sql

from lastgood.dump.names import Relation
from lastgood.dump.rulings.tree import shape
from lastgood.dump.statements import Command, Extension
from lastgood.errors import Failed
from lastgood.facts import LanguageFacts
from lastgood.load.repairs.repair import Repair, Rules
from lastgood.postgres import pg_cron
from lastgood.postgres.server import Connection

NO_SUCH_VERSION = "22023"
NOT_IN_THIS_SCHEMA = "0A000"  # also raised for an extension that is not available on the server
STATES = frozenset({NO_SUCH_VERSION, NOT_IN_THIS_SCHEMA, pg_cron.REFUSAL})
# duplicate_object, duplicate_table, duplicate_function
EXISTS = frozenset({"42710", "42P07", "42723"})
NOT_IMMUTABLE = "42P17"
MAKE_IMMUTABLE = (
    "Run in the database that --db names: {}. Then run this command again: it carries the change over from there. A "
    "dump does not hold such changes to functions of extensions."
)


def text(connection: Connection, command: Command, found: Extension, rules: Rules) -> bytes:
    """CREATE EXTENSION with the version in ``rules``, or CREATE LANGUAGE with the functions recorded there. ``found``:
    the extension that the command creates."""
    if found.as_language and found.name in rules.languages:
        language = rules.languages[found.name]
        if language.trusted and language.handler[-1] != "plpgsql_call_handler" and rules.confined:
            # The manifest says so: under a trusted name, any role could use a language that is not.
            raise Failed(
                f'cannot create the trusted language "{found.name}": its handler "{language.handler[-1]}" could give '
                "functions the rights of the server",
                hint="If you trust the restore point's code: --trust-code REASON",
            )
        return _language(language).as_bytes(connection)
    if found.version is None and found.name in rules.extensions and not found.as_language:
        return command.statement.text + b"\nVERSION " + sql.Literal(rules.extensions[found.name]).as_bytes(connection)
    return command.statement.text


def repairs(connection: Connection, command: Command, error: psycopg.Error, rules: Rules) -> Iterator[Repair]:
    """Another version, another schema, or both."""
    found = command.detail
    if not isinstance(found, Extension):
        return
    if pg_cron.is_refused(found.name, error):
        before, after = pg_cron.around_creation(found.name)
        made = text(connection, command, found, rules)
        yield Repair(
            made, "the server allows it only in the database that its setting names", tuple(before), tuple(after)
        )
    row = connection.execute(
        "SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = %s", [found.name]
    ).fetchone()
    if row is None:
        return
    wanted = found.version or rules.extensions.get(found.name)
    of_default = f"version {wanted} is not available on this server; version {row[0]}, its default, was installed"
    moved = f'the server does not allow it in schema "{found.schema}"; it was created in its own schema'
    if error.sqlstate == NO_SUCH_VERSION and wanted is not None:
        yield Repair(_create(found.name, found.schema, None), of_default)
        yield Repair(_create(found.name, None, None), f"{of_default}; {moved}")
    if error.sqlstate == NOT_IN_THIS_SCHEMA and found.schema is not None:
        yield Repair(_create(found.name, None, wanted), moved)
        if wanted is not None:
            yield Repair(_create(found.name, None, None), f"{moved}; {of_default}")


def _language(language: LanguageFacts) -> sql.Composed:
    made = sql.SQL("CREATE {} LANGUAGE {} HANDLER {}").format(
        sql.SQL("TRUSTED" if language.trusted else ""), sql.Identifier(language.name), sql.Identifier(*language.handler)
    )
    for clause, function in (("INLINE", language.inline), ("VALIDATOR", language.validator)):
        if function is not None:
            made += sql.SQL(" {} {}").format(sql.SQL(clause), sql.Identifier(*function))
    return made


def _create(name: str, schema: str | None, version: str | None) -> sql.Composed:
    made = sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(name))
    if schema is not None:
        made += sql.SQL(" SCHEMA {}").format(sql.Identifier(schema))
    if version is not None:
        made += sql.SQL(" VERSION {}").format(sql.Literal(version))
    return made


def belongs_to_one(connection: Connection, relation: Relation) -> bool:
    """Whether an extension owns this relation."""
    return (
        connection.execute(
            """
            SELECT FROM pg_catalog.pg_depend
            WHERE classid = 'pg_catalog.pg_class'::regclass AND objid = to_regclass(%s) AND objsubid = 0
              AND deptype = 'e'
            """,
            [str(relation)],
        ).fetchone()
        is not None
    )


def not_immutable(connection: Connection, command: Command) -> list[str]:
    """Functions of extensions that a command calls, and that are not IMMUTABLE here."""
    calls = list(_calls(shape(command.statement.text.decode("utf-8", "replace"))))
    rows = connection.execute(
        """
        SELECT DISTINCT p.oid::regprocedure::text
        FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_proc p ON p.oid = d.objid
        JOIN unnest(%s::text[], %s::int[]) call (name, arguments)
          ON call.name = p.proname AND call.arguments BETWEEN p.pronargs - p.pronargdefaults AND p.pronargs
        WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.deptype = 'e' AND p.provolatile <> 'i'
        ORDER BY 1
        """,
        [[name for name, _ in calls], [arguments for _, arguments in calls]],
    )
    return [name for (name,) in rows]


def _calls(tree: Any) -> Iterator[tuple[str, int]]:
    """The functions that a syntax tree calls: name and number of arguments."""
    if isinstance(tree, list):
        for each in tree:
            yield from _calls(each)
    elif isinstance(tree, dict):
        if "funcname" in tree:
            yield tree["funcname"][-1]["String"]["sval"], len(tree.get("args", ()))
        for each in tree.values():
            yield from _calls(each)


def relations(connection: Connection) -> frozenset[Relation]:
    """The tables, views and sequences of extensions."""
    rows = connection.execute(
        """
        SELECT n.nspname, c.relname
        FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objsubid = 0 AND d.deptype = 'e'
        """
    )
    return frozenset(Relation(schema, name) for schema, name in rows)


def absent(connection: Connection, relations: Iterable[Relation]) -> frozenset[Relation]:
    """The tables or sequences among ``relations`` that do not exist."""
    names = {str(relation): relation for relation in relations}
    found = connection.execute("SELECT name FROM unnest(%s::text[]) name WHERE to_regclass(name) IS NULL", [[*names]])
    return frozenset(names[name] for (name,) in found)


def configuration(connection: Connection) -> dict[Relation, str]:
    """The tables of extensions whose rows are part of a dump, each with the WHERE clause (or an empty text) for the
    rows of the dump, as opposed to those of the extension's script."""
    rows = connection.execute(
        """
        SELECT n.nspname, c.relname, g.condition
        FROM pg_catalog.pg_extension e
        CROSS JOIN LATERAL unnest(e.extconfig, e.extcondition) g (oid, condition)
        JOIN pg_catalog.pg_class c ON c.oid = g.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p')
        """
    )
    return {Relation(schema, name): condition for schema, name, condition in rows}


def make_room(connection: Connection, relation: Relation, condition: str) -> int:
    """Delete the extension's rows from the part of its table that the dump covers completely; return their number."""
    # The condition is the extension's own text, from the catalogue; pg_dump uses it in the same way.
    rows = sql.SQL("DELETE FROM ONLY {} {}").format(
        sql.Identifier(relation.schema, relation.name),
        sql.SQL(condition),
    )
    return connection.execute(rows).rowcount
