"""Every order that the graph of tasks allows loads a dump, and loads the same: costs may choose among them freely.

The tasks get ranks that no costs would give them, and one worker does them in that order. An edge that is missing shows
when the later of two tasks comes first: with ``backwards`` each comes as early as the graph lets it.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from lastgood.context import Context, Pace
from lastgood.load import crew, graph, schedule
from lastgood.load.tasks import Task
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.restore import restore
from tests.support import same_database

FIXTURES = Path(__file__).parent.parent / "fixtures"
FIRST, *OTHERS = (FIXTURES / "order_of_restore.sql").read_text().split("\n-- # ")
CHAPTERS = {text.split("\n")[0]: FIRST + "\n-- " + text for text in OTHERS} | {
    "all": "\n-- ".join([FIRST, *(each for each in OTHERS if not each.startswith(("unchecked", "hashed")))])
}
IN_FORCE = (FIXTURES / "order_of_rows.sql").read_text()
ORDERS = ("backwards", 0)
Order = str | int


def numbered(order: Order, tasks: list[Task]) -> Iterator[float]:
    """A rank for each task."""
    if order == "backwards":
        return iter(range(len(tasks)))
    ranks = [float(number) for number in range(len(tasks))]
    random.Random(order).shuffle(ranks)
    return iter(ranks)


def reordered(monkeypatch: pytest.MonkeyPatch, ranks: Callable[[list[Task]], Iterator[float]]) -> None:
    def tasks_of(*args: Any, **options: Any) -> list[Task]:
        tasks = graph.tasks_of(*args, **options)
        for task, rank in zip(tasks, ranks(tasks), strict=True):
            task.rank = rank
        return tasks

    monkeypatch.setattr(crew, "tasks_of", tasks_of)
    monkeypatch.setattr(schedule, "AT_ONCE", 1)  # otherwise cheap ones are taken in heaps


def load(server: EmbeddedServer, source: str, file: Path, into: str, jobs: int = 1, **options: Any) -> list[str]:
    """Restore a dump; return pg_dump's output of the result."""
    restore(server.target(source), file.parent, str(file), into, Context(pace=Pace(jobs=jobs)), **options)
    return same_database.normalised(same_database.dump(server, into, file.with_name(f"{into}.sql")).read_bytes())


def psql(server: EmbeddedServer, like: str, file: Path, into: str) -> None:
    """Restores a dump as its users do."""
    with server.target(like).connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(into)))
    psql: list[str | Path] = [server.bin / "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", server.url(into), "-f", file]
    subprocess.run(psql, check=True, capture_output=True)


def made(server: EmbeddedServer, name: str, text: str) -> str:
    """A database."""
    with server.target(name).connect() as connection:
        # A role belongs to the whole server.
        connection.execute("DO $$ BEGIN CREATE ROLE odd_reader; EXCEPTION WHEN duplicate_object THEN END $$")
        connection.execute(text)
    return name


@pytest.mark.postgres(18, also=(15,))
@pytest.mark.parametrize(
    "chapter",
    # Only newer servers take a NOT NULL that is not valid.
    [pytest.param(each, marks=pytest.mark.postgres(18) if each == "unchecked" else ()) for each in CHAPTERS],
)
def test_any_order_of_a_whole_dump_loads_the_same(
    server: EmbeddedServer,
    new_database: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chapter: str,
) -> None:
    source = made(server, new_database("odd"), CHAPTERS[chapter])
    file = same_database.dump(server, source, tmp_path / "odd.sql")
    expected = same_database.normalised(file.read_bytes())
    for order in ORDERS:
        reordered(monkeypatch, partial(numbered, order))
        assert load(server, source, file, f"{source}_{order}", jobs=4 if order == 0 else 1) == expected, order


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize("order", ORDERS)
def test_any_order_of_rows_behind_all_definitions_loads_the_same(
    server: EmbeddedServer,
    new_database: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    order: Order,
) -> None:
    """Keys and triggers are in force when the rows come: ``cat schema.sql data.sql``."""
    source = made(server, new_database("in_force"), IN_FORCE)
    parts = [
        same_database.dump(server, source, tmp_path / f"{which}.sql", f"--{which}-only") for which in ("schema", "data")
    ]
    file = tmp_path / "both.sql"
    file.write_bytes(b"".join(part.read_bytes() for part in parts))
    psql(server, source, file, f"{source}_psql")
    expected = same_database.normalised(
        same_database.dump(server, f"{source}_psql", tmp_path / "psql.sql").read_bytes()
    )
    reordered(monkeypatch, partial(numbered, order))
    assert load(server, source, file, f"{source}_r") == expected
