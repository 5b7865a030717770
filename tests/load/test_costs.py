"""What loads teach about a server, and the file that keeps it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from lastgood.load import costs
from lastgood.load.costs import Costs, Effort, Known, Spent, learn
from lastgood.postgres.embedded import EmbeddedServer

LARGE = 1 << 30


def test_the_first_load_replaces_the_defaults_of_what_it_did() -> None:
    spent = {Effort.ROWS: Spent(actual=6.0, expected=3.0), Effort.INDEX: Spent(actual=1.0, expected=2.0)}
    known = learn(Known(), spent, LARGE)
    before = Costs()
    assert known == Known(
        Costs(load_byte=2 * before.load_byte, index_row=before.index_row / 2, index_byte=before.index_byte / 2),
        {Effort.ROWS: 6.0, Effort.INDEX: 1.0},
    )
    assert known.learned


def test_what_was_known_counts_half_from_load_to_load() -> None:
    known = Known(Costs(key_row=1e-6), {Effort.KEY: 8.0})
    again = learn(known, {Effort.KEY: Spent(actual=4.0, expected=2.0)}, LARGE)
    # 4 of the 8 seconds say 1, 4 say 2.
    assert again.costs.key_row == pytest.approx(1.5e-6)
    assert again.learned_from == {Effort.KEY: 8.0}
    assert not again.learned


def test_a_changed_server_is_reflected_after_a_few_loads() -> None:
    known = Known(Costs(load_byte=1e-9), {Effort.ROWS: 600.0})
    for _ in range(8):
        size = 1e9
        known = learn(known, {Effort.ROWS: Spent(actual=10.0, expected=size * known.costs.load_byte)}, LARGE)
    assert known.costs.load_byte == pytest.approx(10e-9, rel=0.15)


@pytest.mark.parametrize(
    ("spent", "size"),
    [
        (Spent(actual=6.0, expected=3.0), 19_999_999),
        (Spent(actual=0.09, expected=0.01), LARGE),
        (Spent(actual=6.0, expected=0.0), LARGE),
    ],
)
def test_small_samples_are_ignored(spent: Spent, size: int) -> None:
    assert learn(Known(), {Effort.ROWS: spent}, size) == Known()


def test_what_was_learned_comes_back(tmp_path: Path) -> None:
    known = Known(Costs(load_byte=3e-8, statistics=0.2), {Effort.ROWS: 12.5, Effort.STATISTICS: 0.4})
    file = tmp_path / "not there yet" / "costs" / "1.json"
    costs.write(file, known)
    assert costs.read(file) == known


def test_threads_that_update_at_once_do_not_undo_each_other(tmp_path: Path) -> None:
    file = tmp_path / "1.json"
    efforts = (Effort.ROWS, Effort.INDEX, Effort.KEY, Effort.BACKUP)
    threads = [
        threading.Thread(target=costs.teach, args=(file, {effort: Spent(2.0, 1.0)}, LARGE)) for effort in efforts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert costs.read(file).learned_from == dict.fromkeys(efforts, 2.0)


def test_a_file_from_a_version_with_fewer_costs_is_of_use(tmp_path: Path) -> None:
    file = tmp_path / "1.json"
    file.write_text(json.dumps({"format": 1, "costs": {"load_byte": 2e-9}, "learned_from": {"rows": 3}}))
    assert costs.read(file) == Known(Costs(load_byte=2e-9), {Effort.ROWS: 3.0})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00\xff",
        "[]",
        "7",
        "{}",
        '{"format": 2, "costs": {}, "learned_from": {}}',
        '{"format": 1, "costs": [], "learned_from": {"rows": "many"}}',
        '{"format": 1, "costs": {"load_byte": -1}, "learned_from": {}}',
        '{"format": 1, "costs": {"load_byte": NaN}, "learned_from": {}}',
        '{"format": 1, "costs": {"load_byte": true}, "learned_from": {}}',
        '{"format": 1, "costs": {"load_byte": 1e-9}, "learned_from": {"tea": 1}}',
        '{"format": 1, "costs": 4, "learned_from": {}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_file_counts_as_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "1.json"
    file.write_text(text, encoding="latin-1")
    assert costs.read(file) == Known()


def test_a_folder_that_can_not_be_written_to_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "costs").write_text("a file")
    costs.write(tmp_path / "costs" / "1.json", Known())
    assert costs.read(tmp_path / "costs" / "1.json") == Known()


@pytest.mark.postgres(15, 18)
def test_a_server_is_known_by_its_identifier(server: EmbeddedServer, tmp_path: Path) -> None:
    with server.target("postgres").connect() as connection:
        row = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
        assert row is not None
        assert costs.place(tmp_path, connection) == tmp_path / "costs" / f"{row[0]}.json"


def test_where_it_may_not_be_asked_a_server_is_known_by_its_address(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path
) -> None:
    with server.target(new_database()).connect() as connection:
        connection.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        connection.execute("SET ROLE pg_read_all_data")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT pg_control_system()")
        found = costs.place(tmp_path, connection)
        again = costs.place(tmp_path, connection)
    assert found == again
    assert found.parent == tmp_path / "costs"
    assert found.name.startswith("at_")
