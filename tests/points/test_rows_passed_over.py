"""A plan of a point of our own skips its rows; the loaded rows are still verified."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood import points
from lastgood.context import Context
from lastgood.errors import BadPoint, Corrupt
from lastgood.events import Caution, Event
from lastgood.points.dump_point import take
from lastgood.points.manifest import write_manifest
from lastgood.points.point import RestorePoint
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from lastgood.restore import restore

MADE = r"""
CREATE TABLE public.notes (id int PRIMARY KEY, t text);
INSERT INTO public.notes SELECT i, E'line\nof \\. text ' || i FROM generate_series(1, 20000) i;
CREATE TABLE public.empty (id int);
CREATE TABLE public.few (id int REFERENCES public.notes);
INSERT INTO public.few VALUES (1), (2);
SELECT lo_from_bytea(77, 'abc');
"""


@pytest.fixture
def live(server: EmbeddedServer, new_database: Callable[..., str]) -> Target:
    target = server.target(new_database("live"))
    with target.connect() as connection:
        connection.execute(MADE)
    return target


def found(store: Path) -> RestorePoint:
    (point,) = points.all_points(store)
    return point


def changed(point: RestorePoint, old: bytes, new: bytes, *, at: float | None = None) -> None:
    """Replace bytes without a change of the file's times, as a disk fault does, or set the time ``at``."""
    assert len(old) == len(new)
    text, before = point.path.read_bytes(), point.path.stat()
    assert text.count(old) == 1
    point.path.write_bytes(text.replace(old, new))
    os.utime(point.path, (before.st_atime, before.st_mtime if at is None else at))


@pytest.mark.postgres(15, 18)
def test_a_reading_without_the_rows_gives_the_same(live: Target, store: Path) -> None:
    point = take(live, store)
    whole = points.read_whole(point, skim=True)
    passed = points.read_whole(point, skim=True, skip_rows=True)
    assert whole.source.pending_digest is None
    assert passed.source.pending_digest is not None
    assert passed.summary.script == whole.summary.script
    assert passed.facts == whole.facts
    assert (passed.summary.large_objects, passed.summary.created) == (1, whole.summary.created)


@pytest.mark.postgres(15, 18)
def test_it_is_restored_and_proved(live: Target, store: Path) -> None:
    point = take(live, store)
    report = restore(live, store, point.path.name, f"{live.dbname}_r")
    assert sum(table.rows for table in report.tables) == 20002


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\\\\. text 15000\n", b"\\\\. test 15000\n"),  # a row
        (b"CREATE TABLE public.empty", b"CREATE TABLE public.emptz"),  # a definition
        (b"-- Name: empty; Type: TABLE;", b"-- Name: emptz; Type: TABLE;"),  # a comment
    ],
)
def test_what_was_changed_is_never_restored(live: Target, store: Path, old: bytes, new: bytes) -> None:
    point = take(live, store)
    changed(point, old, new)
    with pytest.raises(BadPoint) as caught:
        restore(live, store, point.path.name, f"{live.dbname}_r")
    assert caught.value.exit_status == 4
    with live.connect() as connection:
        row = connection.execute("SELECT count(*) FROM pg_database WHERE datname = %s", [f"{live.dbname}_r"]).fetchone()
    assert row == (0,)


def test_a_changed_row_is_reported_while_it_is_loaded(live: Target, store: Path) -> None:
    point = take(live, store)
    changed(point, b"\\\\. text 15000\n", b"\\\\. test 15000\n")
    with pytest.raises(Corrupt) as caught:
        restore(live, store, point.path.name, f"{live.dbname}_r")
    assert caught.value.message == (f'cannot use "{point.path.name}": its SHA-256 differs from that in its manifest')


def test_a_file_that_was_written_to_later_is_read_as_a_whole(live: Target, store: Path) -> None:
    older, newer = take(live, store), take(live, store)
    changed(newer, b"\\\\. text 15000\n", b"\\\\. test 15000\n", at=time.time() + 60)
    events: list[Event] = []
    chosen = points.choose(store, database=live.dbname, skip_rows=True, context=Context(events.append))
    assert chosen.point.path == older.path
    assert [each.text.partition(" was skipped: ")[0] for each in events if isinstance(each, Caution)] == [
        newer.path.name
    ]


def test_a_manifest_that_calls_a_command_rows_gets_the_whole_file_read(live: Target, store: Path) -> None:
    point = take(live, store)
    manifest = point.manifest
    assert manifest is not None
    assert manifest.rows_at is not None
    notes = max(manifest.rows_at, key=lambda span: span.size)
    longer = notes.model_copy(update={"size": notes.size + 200})
    spans = tuple(longer if span == notes else span for span in manifest.rows_at)
    point.path.with_name(point.path.name + ".lastgood.json").unlink()
    write_manifest(point.path, manifest.model_copy(update={"rows_at": spans}))
    passed = points.read_whole(found(store), skim=True, skip_rows=True)
    assert passed.source.pending_digest is None


def test_an_older_manifest_gets_the_whole_file_read(live: Target, store: Path) -> None:
    point = take(live, store)
    assert point.manifest is not None
    point.path.with_name(point.path.name + ".lastgood.json").unlink()
    write_manifest(point.path, point.manifest.model_copy(update={"rows_at": None}))
    assert points.read_whole(found(store), skim=True, skip_rows=True).source.pending_digest is None
