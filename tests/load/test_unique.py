"""Primary keys and unique constraints of large tables, in two steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood.context import Context, Pace
from lastgood.dump.lexer.tokens import Statement
from lastgood.dump.rulings import rule
from lastgood.dump.statements import Command
from lastgood.load import graph
from lastgood.load.tasks import in_two
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.restore import restore
from tests.load.databases import dumped


def halves(text: str) -> list[str] | None:
    found = in_two(rule(Statement(text.encode(), 0, 1)))
    return None if found is None else [half.statement.text.decode() for half in found]


@pytest.mark.parametrize(
    ("text", "index", "constraint"),
    [
        (
            "ALTER TABLE ONLY public.a\n    ADD CONSTRAINT a_pkey PRIMARY KEY (id)",
            "CREATE UNIQUE INDEX a_pkey ON public.a (id)",
            "ALTER TABLE ONLY public.a ADD CONSTRAINT a_pkey PRIMARY KEY USING INDEX a_pkey",
        ),
        (
            'ALTER TABLE ONLY "S (1)"."A.b"\n    ADD CONSTRAINT "x, y" UNIQUE ("c) d", e) INCLUDE (f, g)',
            'CREATE UNIQUE INDEX "x, y" ON "S (1)"."A.b" ("c) d", e) INCLUDE (f, g)',
            'ALTER TABLE ONLY "S (1)"."A.b" ADD CONSTRAINT "x, y" UNIQUE USING INDEX "x, y"',
        ),
    ],
)
def test_the_index_first_and_then_the_constraint(text: str, index: str, constraint: str) -> None:
    assert halves(text) == [index, constraint]


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE ONLY public.a ADD CONSTRAINT u UNIQUE (id) DEFERRABLE INITIALLY DEFERRED",
        "ALTER TABLE ONLY public.a ADD CONSTRAINT u UNIQUE NULLS NOT DISTINCT (id)",
        "ALTER TABLE ONLY public.a ADD CONSTRAINT u UNIQUE (id) WITH (fillfactor='70')",
        "ALTER TABLE ONLY public.a ADD CONSTRAINT u PRIMARY KEY (id, during WITHOUT OVERLAPS)",
        "ALTER TABLE ONLY public.a ADD CONSTRAINT u PRIMARY KEY USING INDEX v",
        "ALTER TABLE public.a ADD CONSTRAINT u PRIMARY KEY (id)",
    ],
)
def test_a_definition_with_more_options_is_not_split(text: str) -> None:
    assert halves(text) is None


MADE = """
CREATE TABLE public."A b" (id int PRIMARY KEY, "c) d" text UNIQUE, e int, UNIQUE (e, id) INCLUDE ("c) d"));
INSERT INTO public."A b" SELECT i, 'c' || i, i % 7 FROM generate_series(1, 5000) i;
CREATE TABLE public.b (id int REFERENCES public."A b", u int UNIQUE DEFERRABLE);
INSERT INTO public.b SELECT i, i FROM generate_series(1, 5000) i;
ALTER TABLE public."A b" CLUSTER ON "A b_pkey", REPLICA IDENTITY USING INDEX "A b_pkey";
CREATE TABLE public.root (id int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE public.leaf PARTITION OF public.root FOR VALUES FROM (0) TO (10000);
INSERT INTO public.root SELECT i FROM generate_series(1, 5000) i;
"""


@pytest.mark.postgres(15, 16, 17, 18)
def test_what_results_is_the_same(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "DIVIDE_FROM", 1 << 10)
    divided = []

    def noted(command: Command) -> tuple[Command, Command] | None:
        divided.append(in_two(command))
        return divided[-1]

    monkeypatch.setattr(graph, "in_two", noted)
    live = server.target(new_database("live"))
    with live.connect() as connection:
        connection.execute(MADE)

    def lines(name: str) -> str:
        text = dumped(server, live.at(name), tmp_path / f"{name}.sql").read_text()
        # Rows lie in another order, and \\restrict has another key each time.
        return "\n".join(sorted(line for line in text.splitlines() if "restrict" not in line))

    before = lines(live.dbname)
    restore(live, tmp_path, str(tmp_path / f"{live.dbname}.sql"), f"{live.dbname}_r", Context(pace=Pace(jobs=4)))
    assert lines(f"{live.dbname}_r") == before
    # The graph is made twice: two keys of "A b" and one of the leaf; INCLUDE too; DEFERRABLE stays whole.
    assert sorted(each is not None for each in divided) == [False] + [True] * 4
