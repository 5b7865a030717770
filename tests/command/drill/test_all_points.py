"""``drill --all``: every restore point of a store is really restored, and those that are damaged are found."""

from __future__ import annotations

from pathlib import Path

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.command.drill.points import DAMAGED, fill


def test_it_finds_exactly_the_three_that_are_damaged(lastgood: Lastgood, server: EmbeddedServer, database: str) -> None:
    with server.target(database).connect() as connection:
        connection.execute("INSERT INTO public.contacts SELECT i, md5(i::text), now() FROM generate_series(4, 500) i")
    Path("backups").mkdir()
    fill(server, database, Path("backups"))

    answer = lastgood("drill", "--all", "--json")

    assert answer.status == 4, answer.err
    evidence = answer.document["evidence"]
    points = {each["name"]: each for each in evidence["points"]}
    assert (len(points), evidence["status"]) == (20, "failed")
    assert {name: each["verdict"] for name, each in points.items() if each["verdict"] != "proved"} == DAMAGED
    proved = [each for each in points.values() if each["verdict"] == "proved"]
    assert {(each["rows"], each["tables"]) for each in proved} == {(504, 3)}
    odd = {each["digest"]: each["name"] for each in proved}
    assert len(odd) == 1, odd
    assert all(points[name]["message"].startswith("cannot read ") for name in DAMAGED)
    # The drill continues with the others and reports the failure.
    done = [each["name"] for each in answer.events if each["event"] == "stage_done"]
    assert len(done) == 17
    run = evidence["run"]
    text = (Path("state/drills") / run / "evidence.md").read_text(encoding="utf-8")
    assert "**17 of 20 restore points** were restored on a scratch server" in text
    assert lastgood("drill", "--show", run).status == 0
    # It rehearses no rollback: a drill is still due.
    assert lastgood("drill", "--due").status == 3


def test_one_that_is_proved_altogether_is_recorded_as_done(lastgood: Lastgood, database: str) -> None:
    assert lastgood("backup", "--quiet").status == 0
    assert lastgood("drill", "--all", "--quiet").status == 0
    (line,) = lastgood("runs", "--json").document["runs"]
    assert (line["kind"], line["outcome"], line["status"]) == ("drill", "done", "done")
    report = lastgood("report", "--json").document
    assert report["state"] == f'The drill is done; "{database}" was not touched by it.'


def test_a_store_without_any(lastgood: Lastgood, database: str) -> None:
    answer = lastgood("drill", "--all")
    assert (answer.status, answer.out) == (4, "")
    assert answer.err == (
        'error: cannot prove restore points of "backups": the store is empty\n'
        "next:  Give another folder with --store, or make a restore point with lastgood backup.\n"
    )
