"""A random history as it runs, against a model in plain Python and against the server's own checks."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from string import Template

import psycopg
from psycopg import sql

from lastgood.command.salvage import plan_file
from lastgood.config.tables import Audit
from lastgood.errors import Failed, LastgoodError, Refused, UsageError
from lastgood.postgres.server import Connection, Target
from lastgood.salvage import images, tables, undo
from lastgood.salvage.apply import Destination, apply, preview
from lastgood.salvage.plan import Chosen
from lastgood.salvage.policy import STRICT, Policies
from lastgood.salvage.salvage import ReadySalvage
from lastgood.salvage.sides import Names
from lastgood.salvage.transaction import Wanted, opened
from tests.salvage import histories, sides
from tests.salvage.histories import COLUMNS, HOLDS, MIGRATIONS, NUMBERED, REFERENCES, History, Picked, Round, Write
from tests.salvage.model import Model
from tests.salvage.sides import BASE, LIVE, THEIRS
from tests.salvage.terms import Choice, Form, Key, Row

_RECORDED = Template(
    "WITH w AS ($statement RETURNING *) INSERT INTO log SELECT '$entry ' || row_number() OVER (), '$table', '$who', "
    "$number, to_jsonb(w) FROM w"
)
_numbers = itertools.count(1)
RowsOf = dict[str, list[Row]]


class Course:
    """One history on its way. Both sides begin equal to base; each is written to, and rows are brought from one into
    the other."""

    def __init__(self, target: Target, connection: Connection, state: Path, history: History) -> None:
        self.target, self.connection, self.state, self.history = target, connection, state, history
        self.migration = ""
        self.entries = itertools.count(1)
        # What a side is called changes with each write to it: a kept database is not written to.
        self.versions = Counter[str]()
        self.known: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        self.undoable: list[tuple[str, str, RowsOf, RowsOf]] = []

    def run(self) -> None:
        """Raise AssertionError where the salvage, or its undo, did anything but what the model says."""
        sides.create_everywhere(self.connection, self.history.definitions)
        for schema in sides.SCHEMAS:
            self.write(schema, self.history.base, recorded=False)
        for number, each in enumerate(self.history.rounds):
            if number == self.history.before:
                self.migrate()
            self.write(THEIRS, each.theirs)
            self.write(LIVE, each.live)
            self.salvage(each)
            if each.undo:
                self.write(LIVE, each.later)
                self.undo()

    def migrate(self) -> None:
        self.migration = self.history.migration
        if self.migration:
            sides.inside(self.target, THEIRS, MIGRATIONS[self.migration][0])

    def stored(self, schema: str, table: str) -> dict[str, str]:
        """The columns that are read, each with the name that it has in a schema."""
        columns = {each: each for each in COLUMNS[table]}
        if schema == THEIRS and table == "m":
            if self.migration == "columns":
                columns = {each: each for each in columns if each != "f"} | {"extra": "extra"}
            elif self.migration == "required":
                columns["extra"] = "extra"
            elif self.migration == "renamed":
                columns["t"] = "tt"
            elif self.migration == "rename not told":
                columns = {each: each for each in columns if each != "t"} | {"tt": "tt"}
        return columns

    def there(self, schema: str) -> list[str]:
        """The tables that a schema has."""
        gone = "image" if self.migration == "without table" and schema == THEIRS else ""
        return [each for each in self.history.tables if each != gone]

    def write(self, schema: str, writes: list[Write], *, recorded: bool = True) -> None:
        self.connection.execute(sql.SQL("SET search_path = {}, public").format(sql.Identifier(schema)))
        self.versions[schema] += bool(writes)
        for write in writes:
            # A write that the server refuses cannot have happened.
            with suppress(psycopg.IntegrityError, psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedTable):
                self.connection.execute(self.statement(schema, write, recorded=recorded).encode())

    def statement(self, schema: str, write: Write, *, recorded: bool) -> str:
        """A write as SQL, with its entry in the audit table if there is one."""
        kind, table, numbers = write
        if kind == "exchange":
            return histories.DEFERRED if self.history.deferrable else histories.EXCHANGE
        statement = self.history.statement(write)
        if self.migration == "renamed" and schema == THEIRS and table == "m":
            statement = statement.replace("SET t =", "SET tt =").replace("(t, ", "(tt, ")
        if not self.history.audited or not recorded:
            return statement
        entry = f"{schema} {next(self.entries)}"
        who, number = ("kim", "lou", "max")[numbers[3] % 3], numbers[2] % 3
        return _RECORDED.substitute(statement=statement, entry=entry, table=table, who=who, number=number)

    def read(self, schema: str) -> RowsOf:
        self.connection.execute("SET search_path = ''")
        found: RowsOf = {}
        for table in self.there(schema):
            columns = self.stored(schema, table)
            query = sql.SQL("COPY (SELECT {} FROM {} {}) TO STDOUT").format(
                sql.SQL(", ").join(map(sql.Identifier, columns.values())),
                sql.SQL("" if table == "part" else "ONLY"),
                sql.Identifier(schema, table),
            )
            with self.connection.cursor().copy(query) as copy:
                lines = b"".join(bytes(block) for block in copy).decode().split("\n")[:-1]
            found[table] = [dict(zip(columns, line.split("\t"), strict=True)) for line in lines]
        return found

    def salvage(self, each: Round) -> None:
        backwards = each.backwards and self.migration != "renamed"
        live, theirs = (THEIRS, LIVE) if backwards else (LIVE, THEIRS)
        chosen = self.chosen(each.picked, live)
        run = f"20260101-000000-{next(_numbers):08x}"
        before, kept = self.read(live), self.read(theirs)
        model: Model | None = None
        try:
            if each.picked.edits:
                with self.planned(live, theirs, chosen) as ready:
                    chosen = self.edited(ready, each.picked, kept)
            model = self.model(each.picked, chosen, live, before, kept)
            with self.planned(live, theirs, chosen) as ready:
                assert not ready.plan.refused, ready.plan.refused
                assert not ready.plan.not_compared
                shown = Counter[tuple[str, str, str | None, str]]()
                for table in ready.plan.tables:
                    for one in table.sums:
                        shown[table.name, one.kind, one.action, one.why] += one.rows
                assert shown == model.sums(), (shown - model.sums(), model.sums() - shown)
                destination = Destination(self.target, 1, self.state, run, self.source(theirs))
                apply(destination, ready.found.changed, ready.tables, ready.wanted, ready.plan.tables)
        except UsageError as error:
            # A row that is named may be one that an earlier salvage has brought back under another key.
            assert each.picked.edits, error
            assert "it did not change" in str(error), error
            return
        except (Failed, Refused) as error:
            assert _images(self.read(live)) == _images(before), error
            self.judge(error, model or self.model(each.picked, chosen, live, before, kept))
            return
        assert not model.failing()
        after = self.read(live)
        expected = _resolved(after, model.outcome())
        assert expected is not None, (after, model.outcome())
        self.check(live, expected)
        for image in images.read(self.state, run).tables:
            if image.renumbered:
                path = self.state / images.FOLDER / run / f"{image.number}.renumbered"
                for line in path.read_text().splitlines():
                    old, new = line.split("\t")
                    self.known[self.source(theirs)].append((image.name, old, new))
        self.undoable.append((run, live, before, after))

    def judge(self, error: LastgoodError, model: Model) -> None:
        """An error must be one that the model knows."""
        text = str(error)
        if table := model.ambiguous():
            assert f'"{table}"' in text.replace(f"{LIVE}.", "").replace(f"{THEIRS}.", ""), error
            assert "have the same key" in text, error
        elif failing := model.failing():
            assert any(f'{why} in table "' in text and f'.{name}"' in text for name, why in failing), error
        else:
            assert "unique constraint" in text, error
            assert not model.is_valid(), error

    def chosen(self, picked: Picked, live: str) -> Chosen:
        merged = [f"{live}.{table}.{column}" for table, column in self.json(picked, live)]
        there = self.there(live)
        return Chosen(
            tables=tuple(f"{live}.{each}" for each in picked.tables if each in there),
            exclude=tuple(f"{live}.{each}" for each in picked.exclude if each in there),
            where={f"{live}.{each}": HOLDS[each][0] for each in self.holding(picked, live)},
            since="2026-06-01T00:00:00+00:00" if picked.since else None,
            by_users=(picked.user,) if picked.user else (),
            by_transactions=(picked.number,) if picked.number else (),
            deletes=picked.deletes,
            with_parents=picked.with_parents,
            merge_json=tuple(merged),
            renamed=(f"{live}.m.tt=t",) if self.migration == "renamed" and live == LIVE else (),
            policies=Policies.model_validate(picked.policies),
        )

    def holding(self, picked: Picked, live: str) -> list[str]:
        """The tables with a condition."""
        renamed = self.migration == "rename not told" or (self.migration == "renamed" and live == THEIRS)
        return [each for each in picked.where if each in self.there(live) and not (renamed and each == "m")]

    def json(self, picked: Picked, live: str) -> dict[tuple[str, str], str]:
        """The columns that are merged by key, with their kinds."""
        return {
            (table, column): histories.JSON[self.history.type(table, column)]
            for table, column in histories.TYPED
            if picked.merge_json
            and table in self.there(live)
            and self.history.type(table, column) in histories.JSON
            and column in self.stored(live, table)
            and self.forms(live)[table].key
        }

    def forms(self, live: str) -> dict[str, Form]:
        found = {name: each for name, each in self.history.forms().items() if name in self.there(live)}
        if live == THEIRS and self.migration == "without key":
            found["w"] = Form(())
        return found

    def model(self, picked: Picked, chosen: Chosen, live: str, before: RowsOf, kept: RowsOf) -> Model:
        forms, base = self.forms(live), self.read(BASE)
        wished = {name for name in forms if not chosen.tables or f"{live}.{name}" in chosen.tables}
        choice = Choice(
            frozenset(wished - {each.removeprefix(f"{live}.") for each in chosen.exclude}),
            holds={each: HOLDS[each][1] for each in self.holding(picked, live)},
            json=self.json(picked, live),
            lacking=frozenset(["m"] if live == THEIRS and self.migration == "required" else []),
            only={name.removeprefix(f"{live}."): set(keys) for name, keys in chosen.rows.items()},
            without={name.removeprefix(f"{live}."): set(keys) for name, keys in chosen.without_rows.items()},
        )
        other = {name: self.stored(THEIRS if live == LIVE else LIVE, name) for name in forms}
        columns = {
            name: tuple(each for each in self.stored(live, name) if each in COLUMNS[name] and each in other[name])
            for name in forms
        }
        if picked.since:
            choice = Choice(**{**vars(choice), "within": histories.within(self.history, columns)})
        if picked.user or picked.number:
            choice = Choice(**{**vars(choice), "wrote": partial(_wrote, kept["log"], picked, forms)})
        model = Model(
            forms,
            [each for each in REFERENCES if {each.child, each.parent} <= set(forms)],
            {name: rows for name, rows in base.items() if name in forms},
            {name: list(kept.get(name, base[name])) for name in forms},
            before,
            columns,
            chosen,
            choice,
            known=self.known[self.source(THEIRS if live == LIVE else LIVE)],
            empty={("m", "extra"): "0"},
            all_columns={name: tuple(self.stored(live, name)) for name in forms},
            compared={"log"} if picked.user or picked.number else set(),
        )
        model.predict()
        return model

    def planned(self, live: str, theirs: str, chosen: Chosen) -> AbstractContextManager[ReadySalvage]:
        audited = (
            Audit(table=f"{live}.log", user_column="who", transaction_column="txn") if self.history.audited else None
        )
        return sides.planned(self.target, self.state, chosen, live, theirs, self.source(theirs), audited)

    def source(self, theirs: str) -> str:
        """The name of a side."""
        return f"{theirs} {self.versions[theirs]}"

    def edited(self, ready: ReadySalvage, picked: Picked, kept: RowsOf) -> Chosen:
        """The choice that a plan file makes after it was written and edited."""
        names = Names(source=None, base="base")
        lines = plan_file.text(ready.plan, names).splitlines()
        for what, place in picked.edits:
            rows = [number for number, line in enumerate(lines) if line.startswith('  "') and ",  # " in line]
            if what == "table" and len(rows) > 1:
                lines[rows[place % len(rows)]] = f"# {lines[rows[place % len(rows)]]}"
        named = [each for each in ready.plan.tables if each.key]
        for what in ("rows", "without_rows"):
            places = [place for kind, place in picked.edits if kind == what]
            keys = {}
            for place in places if named else ():
                table = named[place % len(named)]
                key = self.differing(table.name, kept, table.key, place)
                if key is not None:
                    keys[f"{table.schema_name}.{table.name}"] = key
            if keys:
                lines += [
                    f"[{what}]",
                    *(f"{plan_file._quoted(name)} = [{plan_file._key(key)}]" for name, key in keys.items()),
                ]
        path = self.state / "salvage.toml"
        path.write_text("\n".join(lines))
        return plan_file.read(path).chosen

    def differing(self, table: str, kept: RowsOf, key: tuple[str, ...], place: int) -> Key | None:
        """A key of theirs whose row differs from base, as the server prints it."""
        base = self.read(BASE)[table]
        keys = [tuple(row[each] for each in key) for row in kept[table] if row not in base]
        return keys[place % len(keys)] if keys else None

    def check(self, live: str, expected: dict[str, Counter[Key]]) -> None:
        """Let the server compare the rows, with its generated columns, and check every foreign key again."""
        with self.connection.transaction(force_rollback=True):
            self.connection.execute("CREATE SCHEMA expected")
            for name, rows in expected.items():
                columns = sql.SQL(", ").join(map(sql.Identifier, self.stored(live, name).values()))
                there, copied = sql.Identifier(live, name), sql.Identifier("expected", name)
                self.connection.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING GENERATED)").format(copied, there))
                with self.connection.cursor().copy(sql.SQL("COPY {} ({}) FROM STDIN").format(copied, columns)) as copy:
                    for row in rows.elements():
                        copy.write("\t".join(row) + "\n")
                found = self.connection.execute(
                    sql.SQL("""
                    WITH a AS (SELECT l::text AS r FROM {only} {there} l), b AS (SELECT e::text AS r FROM {copied} e)
                    (TABLE a EXCEPT ALL TABLE b) UNION ALL (TABLE b EXCEPT ALL TABLE a)
                    """).format(there=there, copied=copied, only=sql.SQL("" if name == "part" else "ONLY"))
                ).fetchall()
                assert not found, (name, found)
            self.connection.execute(_AGAIN.format(live=live).encode())
            for name in NUMBERED:
                if name in expected:
                    behind = self.connection.execute(
                        sql.SQL("SELECT nextval(pg_get_serial_sequence({}, 'id')) <= max(id) FROM {}").format(
                            sql.Literal(f"{live}.{name}"), sql.Identifier(live, name)
                        )
                    ).fetchone()
                    assert behind != (True,), f"the sequence of {name} is behind its rows"

    def undo(self) -> None:
        """The newest salvage is undone, unless its rows were changed since: then nothing is."""
        if not self.undoable:
            return
        run, live, before, after = self.undoable.pop()
        now = self.read(live)
        known = {name: each for name, each in tables.read(self.connection).items() if name[0] == live}
        recorded = images.read(self.state, run)
        changed = tuple(
            undo.backwards(self.state, recorded, each, known, number) for number, each in enumerate(recorded.tables, 1)
        )
        with opened(self.target, "preview", preview=True) as connection:
            shown = preview(connection, changed, known, Wanted(STRICT))
        destination = Destination(self.target, 1, self.state, f"20260101-000000-{next(_numbers):08x}")
        try:
            apply(destination, changed, known, Wanted(STRICT), shown, complete=True)
        except (Refused, Failed):
            assert _images(now) != _images(after)
            assert self.read(live) == now
            return
        if _images(now) == _images(after):
            assert _images(self.read(live)) == _images(before)


# In one transaction, which is rolled back.
_AGAIN = """
DO $$ DECLARE k record; BEGIN
  SET CONSTRAINTS ALL IMMEDIATE;
  FOR k IN SELECT conrelid::regclass AS child, conname AS name, pg_get_constraintdef(oid) AS definition
           FROM pg_constraint WHERE contype = 'f' AND connamespace = '{live}'::regnamespace AND conparentid = 0
  LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s', k.child, k.name, k.name, k.definition);
  END LOOP;
END $$
"""


def _wrote(entries: list[Row], picked: Picked, forms: dict[str, Form], table: str, key: Key) -> bool:
    columns = forms[table].key
    return any(
        (not picked.user or row["who"] == picked.user)
        and (not picked.number or row["txn"] == str(picked.number))
        and row["table_name"] == table
        and _entry_key(row["row_data"], columns) == key
        for row in entries
    )


def _entry_key(data: str, columns: tuple[str, ...]) -> Key:
    found = json.loads(data.replace("\\\\", "\\"), parse_float=str, parse_int=str)
    return tuple(str(found.get(each)) for each in columns)


def _images(rows: RowsOf) -> dict[str, Counter[Key]]:
    return {table: Counter(tuple(row.values()) for row in found) for table, found in rows.items()}


def _resolved(rows: RowsOf, expected: dict[str, Counter[Key]]) -> dict[str, Counter[Key]] | None:
    """The expected rows with the new keys as they were chosen; None if no choice makes them the rows that are there."""
    found = _images(rows)
    new = {
        table: sorted({row[0] for row in expected[table] if row[0].startswith(f"new {table} ")})
        for table in NUMBERED
        if table in expected
    }
    free = {table: sorted({row[0] for row in found[table]} - {row[0] for row in expected[table]}) for table in new}
    choices = [itertools.permutations(free[table], len(new[table])) for table in new]
    for picks in itertools.product(*choices):
        names = {
            old: given
            for table, pick in zip(new, picks, strict=True)
            for old, given in zip(new[table], pick, strict=True)
        }
        renamed = {
            table: Counter({tuple(names.get(value, value) for value in row): count for row, count in counts.items()})
            for table, counts in expected.items()
        }
        if renamed == found:
            return renamed
    return None
