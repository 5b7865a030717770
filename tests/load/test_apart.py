"""A table that dwarfs the others, loaded and read back by processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lastgood.context import Context, Pace
from lastgood.dump.files.formats import open_dump
from lastgood.dump.names import Relation
from lastgood.dump.script import Section
from lastgood.errors import Failed
from lastgood.facts.of_dump import facts_of_dump
from lastgood.load import apart, tasks
from lastgood.load.supply import InPlace
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from lastgood.restore import restore
from tests.load.databases import dumped, one

FOUR = Pace(jobs=4)
MADE = """
CREATE TABLE public.giant (id int PRIMARY KEY, t text, at timestamptz);
INSERT INTO public.giant
SELECT i, repeat('x', i % 300) || E'\\\\ \\n', '2025-01-01 12:00+00'::timestamptz + i * interval '1 h'
FROM generate_series(1, 20000) i;
"""

Done = list[tuple[str, Mapping[str, Any]]]


@pytest.fixture
def live(server: EmbeddedServer, new_database: Callable[..., str]) -> Target:
    target = server.target(new_database("live"))
    with target.connect() as connection:
        connection.execute(MADE)
    return target


@pytest.fixture
def dump(server: EmbeddedServer, live: Target, tmp_path: Path) -> Path:
    return dumped(server, live, tmp_path / "a.sql")


@pytest.fixture
def measured_run(monkeypatch: pytest.MonkeyPatch) -> Done:
    """What was done apart: everything is large enough, and the machine has processors to spare."""
    monkeypatch.setattr(tasks, "DIVIDE_FROM", 1 << 10)
    monkeypatch.setattr(apart, "APART_FROM", 1 << 10)
    monkeypatch.setattr(apart, "PROCESSORS", 1)
    found: Done = []
    for name in ("load", "read"):
        real = getattr(apart, name)

        def noted(*given: Any, _name: str = name, _real: Any = real, **named: Any) -> Mapping[str, Any]:
            result = _real(*given, **named)
            found.append((_name, result))
            return dict(result)

        monkeypatch.setattr(apart, name, noted)
    return found


def test_a_table_is_loaded_and_read_back_in_parts_by_other_processes(
    live: Target, dump: Path, measured_run: Done
) -> None:
    report = restore(live, dump.parent, str(dump), f"{live.dbname}_r", Context(pace=FOUR))
    assert [(table.name, table.rows, table.equal) for table in report.tables] == [("giant", 20000, True)]
    loads = [result for name, result in measured_run if name == "load"]
    reads = [result for name, result in measured_run if name == "read"]
    assert (len(loads), len(reads)) == (4, 4)
    assert sum(each["rows"] for each in loads) == sum(each["lines"] for each in loads) == 20000
    assert sum(each["lines"] for each in reads) == 20000
    assert one(live.at(f"{live.dbname}_r"), "SELECT count(DISTINCT xmin::text) FROM public.giant") == 4


def test_a_row_that_the_server_refuses_is_reported_as_always(live: Target, dump: Path, measured_run: Done) -> None:
    dump.write_bytes(dump.read_bytes().replace(b"\n19000\t", b"\nmany\t", 1))
    line = dump.read_bytes().partition(b"COPY public.giant")[0].count(b"\n") + 1
    with pytest.raises(Failed) as caught:
        restore(live, dump.parent, str(dump), f"{live.dbname}_r", Context(pace=FOUR))
    assert caught.value.message == (
        f'cannot load line {line} of "a.sql" (rows of public.giant): '
        'invalid input syntax for type integer: "many" [SQLSTATE 22P02]'
    )
    assert one(live, "SELECT count(*) FROM pg_database WHERE datname LIKE '%\\_r'") == 0
    assert one(live, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'lastgood load%'") == 0


def test_where_no_connection_is_left_the_session_does_it_itself(
    live: Target, dump: Path, measured_run: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "_like", _wrong_password)
    report = restore(live, dump.parent, str(dump), f"{live.dbname}_r", Context(pace=FOUR))
    assert [(table.name, table.rows, table.equal) for table in report.tables] == [("giant", 20000, True)]
    assert measured_run == []


def _wrong_password(connection: Any) -> dict[str, Any]:
    return {"conninfo": {**connection.info.get_parameters(), "dbname": "nosuch"}, "settings": []}


def test_another_role_in_force_is_not_lost(live: Target) -> None:
    with live.connect() as connection:
        connection.execute("SET ROLE pg_monitor")
        with pytest.raises(apart.Unable, match="another role is in force"):
            apart.read(connection, b"COPY (SELECT 1) TO STDOUT", whole=True, cancelled=lambda: False, moved=print)


def test_the_settings_of_the_session_are_those_of_its_stand_in(live: Target) -> None:
    with live.connect() as connection:
        connection.execute("SET TimeZone = 'Asia/Tokyo'; SET search_path = 'some where'; SET DateStyle = 'German'")
        copy = b"COPY (SELECT current_setting('TimeZone'), current_setting('search_path'), date '2025-02-01') TO STDOUT"
        wanted = apart.read(connection, copy, whole=True, cancelled=lambda: False, moved=print)
        literal = b"COPY (SELECT 'Asia/Tokyo', '\"some where\"', '01.02.2025') TO STDOUT"
        found = apart.read(connection, literal, whole=True, cancelled=lambda: False, moved=print)
    assert wanted == found


def test_it_ends_when_the_parent_is_gone(live: Target, dump: Path) -> None:
    with live.connect() as connection:
        request = apart._like(connection) | {
            "copy": "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT",
            "whole": True,
        }
    program = [sys.executable, "-P", str(apart.PROGRAM)]
    measured_run = subprocess.run(program, input=json.dumps(request).encode() + b"\n", capture_output=True, check=False)
    assert (measured_run.returncode, measured_run.stdout.count(b"\n")) == (1, 1)
    assert json.loads(measured_run.stdout)["moved"] >= 4 << 20


def test_parts_are_whole_lines(dump: Path) -> None:
    source = open_dump(dump)
    (section,) = [item for item in facts_of_dump(source)[1].script.items if isinstance(item, Section)]
    supply = InPlace(source)
    try:
        assert section.start.relation == Relation("public", "giant")
        whole = b"".join(supply.rows(section))
        for parts in (1, 2, 3, 7, 20000, 30000):
            spans = supply.spans(section, parts)
            texts = [b"".join(supply.span(span)) for span in spans]
            assert len(texts) == parts
            assert b"".join(texts) == whole
            assert all(text.endswith(b"\n") for text in texts if text)
    finally:
        supply.close()
