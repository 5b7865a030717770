"""The text of a guide: its parts, with this database's names in them.

This module writes the content of the blocks, quoted for a shell and SQL. Prose is Markdown with other quoting, so the
renderer passes it in, piece by piece.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from psycopg import pq

from lastgood.command.guide.parts import part
from lastgood.command.guide.quoting import assigned, command_line, insert, literal, needs_quotes, setting, word
from lastgood.command.guide.subject import GuideSubject
from lastgood.facts import Facts, MigrationFacts, TableFacts
from lastgood.facts.migrations import Tool, recognise
from lastgood.postgres.database import fit_name
from lastgood.postgres.lock import lock_key
from lastgood.postgres.server import SECRETS

_BY_NAME = (
    "quick.md",
    "names.md",
    "before.md",
    "procedure.md",
    "verify.md",
    "undo.md",
    "scenarios.md",
    "trouble.md",
    "practices.md",
)
_IN_PLACE = ("limits", "quick", "names", "before", "procedure", "verify", "undo", "scenarios", "trouble", "practices")
# The blocks of both variants, with the part that contains each.
_SHARED = {
    "quick": "quick.md",
    "point": "before.md",
    "room": "before.md",
    "backup": "procedure.md",
    "sessions": "procedure.md",
    "expected": "procedure.md",
    "loss": "procedure.md",
    "reads": "verify.md",
    "watch": "verify.md",
}
_KEPT, _UNDONE = "by_hand_kept_", "by_hand_undone_"
# Settings of a role or the server that could cancel these commands.
OPTIONS = ("statement_timeout=0", "lock_timeout=0", "idle_in_transaction_session_timeout=0")
OPTIONS_17 = ("transaction_timeout=0",)
_SCRIPTS = ("schemas", "leave", "move", "return", "tied", "defaults")
# The longest number of an attempt that fits into the names.
RUN = "x" * 11
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d(?:\.\d+)?(\+\d\d)?)?")


def body(subject: GuideSubject, prose: Mapping[str, str]) -> str:
    """Return all parts in order. ``prose``: the values of placeholders outside blocks. A missing one leaves its place
    empty, which is sufficient for the blocks alone."""
    values = {**_values(subject), **prose}
    if not subject.schemas:
        return "\n".join(_filled(part(name), values) for name in _BY_NAME)
    values |= {f"block_{name}": _filled(_block(name), values) for name in _SHARED}
    return "\n".join(_filled(part(f"place_{name}.md"), values) for name in _IN_PLACE)


def _block(name: str) -> str:
    """Return a block of the variant by name, with its fence."""
    text = part(_SHARED[name])
    start = text.index(f"```sh\n# [{name}] ")
    return text[start : text.index("\n```\n", start) + len("\n```")]


def _filled(text: str, values: Mapping[str, str]) -> str:
    # In one pass, so that placeholders inside values are not replaced.
    return _PLACE.sub(lambda found: values.get(found[1], ""), text)


def _values(subject: GuideSubject) -> dict[str, str]:
    facts = subject.point.facts
    lock = {"lock": str(lock_key(subject.live))}
    return {
        "variables": "\n".join(_variables(subject)),
        "options": word(" ".join(_options(subject))),
        "databases": "\n".join(_schemas(subject) if subject.schemas else _databases(subject)),
        "functions": part("functions.sh").rstrip(),
        "file_name": re.sub(r"[^A-Za-z0-9_.+-]", "_", subject.live).lstrip(".-")[:80] or "database",
        "guide_file": word(subject.file),
        **lock,
        "major": str(subject.major),
        "single": "--single-transaction" if subject.point.single else "--jobs=1",
        "single_psql": " --single-transaction" if subject.point.single else "",
        "things": part("things.sql").rstrip(),
        "capture": part("capture.sql").rstrip(),
        "carry": part("carry.sql").rstrip(),
        "privileges": privileges(subject.privileges),
        "expected_sql": expected(facts),
        "count": _count(subject),
        **{name: part(f"place_{name}.sql").rstrip() for name in _SCRIPTS},
        "own": part("place_own.awk").rstrip(),
        "end_sessions": part("end_sessions.sql").rstrip(),
        "swap": _filled(part("swap.sql"), lock).rstrip(),
        "undo": _filled(part("undo.sql"), lock).rstrip(),
        "state": part("state.sql").rstrip(),
        "hooks_stop": _hooks(subject, "stop"),
        "hooks_start": _hooks(subject, "start"),
    }


def _variables(subject: GuideSubject) -> Iterator[str]:
    """Yield the libpq variables to reach the server. Unknown ones are left to libpq's defaults."""
    variables = {each.keyword.decode(): each.envvar.decode() for each in pq.Conninfo.get_defaults() if each.envvar}
    keywords = {key: value for key, value in subject.target.keywords.items() if key not in SECRETS}
    # A service file may name a database; the connection strings below name theirs and take precedence.
    yield "unset PGDATABASE PGHOSTADDR" + ("" if "service" in keywords else " PGSERVICE")
    for key, value in sorted(keywords.items()):
        if key not in ("dbname", "options", "application_name", "client_encoding") and key in variables:
            yield assigned(variables[key], value)


def _options(subject: GuideSubject) -> Iterator[str]:
    options = subject.target.keywords.get("options", "")
    if options:
        yield options
    for each in (*OPTIONS, *(OPTIONS_17 if subject.major >= 17 else ()), "default_transaction_read_only=off"):
        yield f"-c {each}"


def _databases(subject: GuideSubject) -> Iterator[str]:
    rest = _other_keywords(subject)
    for variable, name in (("LIVE", subject.live), ("MAINTENANCE", subject.maintenance)):
        yield assigned(variable, name)
        yield assigned(f"TO_{variable}", rest + setting("dbname", name))
    for variable, kind in (("SHADOW", "shadow"), ("KEPT", "old"), ("UNDONE", "undone")):
        base = fit_name(subject.live, f"_{kind}_{RUN}").removesuffix(RUN)
        end = "'" if needs_quotes(base) else ""
        yield f'export {variable}={word(base)}"$RUN"'
        yield f'export TO_{variable}={word(rest + setting("dbname", base, open_end=True))}"$RUN{end}"'
    yield from _store(subject)
    carry = "no" if subject.point.carries else "yes"
    yield f'export CARRY="${{CARRY:-{carry}}}"   # yes: the dump was made with --no-owner or --no-acl'


def _schemas(subject: GuideSubject) -> Iterator[str]:
    """Yield the names of a switch in place: one database, its schemas that are rolled back, and prefixes of others."""
    yield assigned("LIVE", subject.live)
    yield assigned("TO_LIVE", _other_keywords(subject) + setting("dbname", subject.live))
    yield 'export MAINTENANCE="$LIVE" TO_MAINTENANCE="$TO_LIVE"'
    yield f'export SHADOW=\'\' KEPT={_KEPT}"$RUN"_ UNDONE={_UNDONE}"$RUN"_'
    yield assigned("SCHEMAS", "\n".join(subject.schemas))
    yield from _store(subject)


def _other_keywords(subject: GuideSubject) -> str:
    """The part of a connection string that no variable of libpq can hold."""
    keywords = {
        key: value
        for key, value in subject.target.keywords.items()
        if key not in SECRETS and key not in ("dbname", "options", "application_name", "client_encoding")
    }
    without = {each.keyword.decode() for each in pq.Conninfo.get_defaults() if not each.envvar}
    return "".join(f"{setting(key, value)} " for key, value in sorted(keywords.items()) if key in without)


def _store(subject: GuideSubject) -> Iterator[str]:
    yield assigned("STORE", str(subject.store))
    yield assigned("GUIDE_POINT", str(subject.point.path))
    yield assigned("GUIDE_SHA256", subject.point.sha256 or "")


def _count(subject: GuideSubject) -> str:
    """Return the SQL that counts: in place within the transaction of the switch, and its schemas alone."""
    schemas = ", ".join(map(literal, subject.schemas))
    values = {
        "migration": _migration(subject.point.facts),
        "begin": "" if schemas else "BEGIN ISOLATION LEVEL REPEATABLE READ;",
        "end": "" if schemas else "COMMIT;",
        "counted": f"t.schema_name IN ({schemas})"
        if schemas
        else "t.schema_name !~ '^pg_' AND t.schema_name <> 'information_schema'",
    }
    return _filled(part("count.sql"), values).rstrip()


def _hooks(subject: GuideSubject, stage: str) -> str:
    hooks = subject.hooks
    both = (hooks.maintenance_on, hooks.stop) if stage == "stop" else (hooks.start, hooks.maintenance_off)
    commands = [each for each in both if each]
    if not commands:
        if stage == "stop":
            return (
                "`lastgood.toml` has no commands to stop the application (`[hooks]`). Stop it with the tools of your\n"
                "platform, including workers and scheduled jobs.\n"
            )
        return "Start the application again with the tools of your platform."
    number = itertools.count(1)
    when, what = ("before", "Stop") if stage == "stop" else ("after", "Start")
    lines = [
        f"# [hook-{stage}] {what} the application with its own commands (lastgood.toml, [hooks])",
        "( set -eu",
        '  export LASTGOOD_LIVE="$LIVE" LASTGOOD_KEPT="$KEPT" LASTGOOD_SHADOW="$SHADOW" LASTGOOD_POINT="$POINT"',
        f"  export LASTGOOD_RUN=\"by-hand-$RUN\" LASTGOOD_STAGE='{when} the switch'",
        *([f"  cd {word(str(subject.folder))}"] if subject.folder is not None else []),
        *("  " + command_line(command, number) for command in commands),
        ")",
    ]
    return "```sh\n" + "\n".join(lines) + "\n```\n"


def privileges(captured: Mapping[str, Any]) -> str:
    """Render owners and grants as ASCII JSON, one line per group of equal objects: no name can break out of its
    line."""
    objects = ",\n".join(json.dumps(each) for each in captured["objects"])
    return f'{{"defaults": {json.dumps(captured["defaults"])}, "objects": [\n{objects}\n]}}'


def expected(facts: Facts) -> str:
    """Render the figures of a restore point as temporary tables."""
    rows = (f"({_table_literals(each)}, {each.rows})" for each in facts.tables)
    newest = (
        f"({_table_literals(each)}, {literal(column)}, {literal(stamp)})"
        for each in facts.tables
        for column, stamp in each.newest.items()
        if _comparable(facts, stamp)
    )
    sequences = (
        f"({literal(each.schema_name)}, {literal(each.name)}, {each.last_value}, {str(each.is_called).lower()})"
        for each in facts.sequences
    )
    version = facts.migration.version if facts.migration is not None and _tool(facts) is not None else None
    return (
        "SET client_encoding = 'UTF8';\n"
        "CREATE TEMP TABLE expected_rows (schema_name text, table_name text, rows bigint);\n"
        + insert("pg_temp.expected_rows", rows)
        + "CREATE TEMP TABLE expected_newest (schema_name text, table_name text, column_name text, newest text);\n"
        + insert("pg_temp.expected_newest", newest)
        + "CREATE TEMP TABLE expected_sequences"
        " (schema_name text, sequence_name text, last_value bigint, is_called boolean);\n"
        + insert("pg_temp.expected_sequences", sequences)
        + "CREATE TEMP TABLE expected_migration (version text);\n"
        + insert("pg_temp.expected_migration", [f"({literal(version)})"] if version is not None else [])
    ).rstrip()


def _table_literals(table: TableFacts) -> str:
    return f"{literal(table.schema_name)}, {literal(table.name)}"


def _comparable(facts: Facts, stamp: str) -> bool:
    """Whether a server set to UTC renders this time stamp in the same form."""
    match = _STAMP.fullmatch(stamp)
    return match is not None and (match[1] is None or facts.rules.time_zone == "UTC")


def _tool(facts: Facts) -> tuple[Tool, TableFacts] | None:
    """Return the table in which a migration tool records applied migrations, and how to read it."""
    migration: MigrationFacts | None = facts.migration
    for table in facts.tables if migration is not None else ():
        tool = recognise(table.schema_name, table.name, table.columns)
        if tool is not None and migration is not None and migration.table == f"{table.schema_name}.{table.name}":
            return tool, table
    return None


def _migration(facts: Facts) -> str:
    found = _tool(facts)
    if found is None:
        return "-- No table of a migration tool is known here."
    tool, table = found
    conditions = [
        " OR ".join("%I IS NULL" if value is None else "%I::text = %L" for value in sorted(values, key=str))
        for _, values in tool.applied
    ]
    # Column names come from this program, the table name from the database.
    arguments = [table.schema_name, table.name]
    for column, values in tool.applied:
        for value in sorted(values, key=str):
            arguments += [column] if value is None else [column, value]
    arguments += [tool.order] * 3
    return _filled(
        part("migration.sql"),
        {
            "where": "".join(f" AND ({each})" for each in conditions),
            "columns": ", ".join(map(literal, [tool.version, *arguments])),
            "schema": literal(table.schema_name),
            "table": literal(table.name),
        },
    ).rstrip()
