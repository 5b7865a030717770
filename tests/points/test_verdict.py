"""Valid, incomplete, corrupt, unsafe, or different from the manifest."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lastgood import points
from lastgood.context import Context
from lastgood.dump.reader import WhichDatabase
from lastgood.errors import BadPoint
from lastgood.events import Event, Note
from lastgood.points.dump_point import take
from lastgood.points.manifest import Form, Manifest, manifest_of, manifest_path
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from tests.support.real_dumps import run

Dump = Callable[..., Path]
ALL = pytest.mark.postgres(15, 16, 17, 18)


def test_one_changed_value_is_reported_with_its_table(crm: Target, store: Path) -> None:
    point = take(crm, store)
    whole = point.path.read_bytes()
    point.path.write_bytes(whole.replace(b"contact 77\t", b"contact 78\t"))
    verdict = points.verify(point)
    assert verdict.state == "differs"
    assert not verdict.valid
    assert verdict.message.startswith(
        f'cannot use "{point.path}": it differs from its manifest: content of public.contacts: digest '
    )
    assert verdict.hint == "The file was changed. Choose another restore point: lastgood points"
    assert verdict.facts is not None


def test_a_changed_byte_outside_the_rows_is_detected_by_the_sha_256(crm: Target, store: Path) -> None:
    point = take(crm, store)
    whole = point.path.read_bytes()
    assert whole.count(b"-- Name: contacts; Type: TABLE;") == 1
    point.path.write_bytes(whole.replace(b"-- Name: contacts; Type: TABLE;", b"-- Name: contacto; Type: TABLE;"))
    verdict = points.verify(point)
    assert (verdict.state, verdict.message) == (
        "differs",
        f'cannot use "{point.path}": its SHA-256 differs from that in its manifest',
    )
    assert verdict.hint == "The file was changed, but not its rows. Choose another restore point: lastgood points"


def test_duplicate_rows_exchanged_do_not_cancel(crm: Target, store: Path) -> None:
    with crm.connect() as connection:
        connection.execute("CREATE TABLE public.twice (v text)")
        connection.execute("INSERT INTO public.twice VALUES ('a'), ('a'), ('b')")
    point = take(crm, store)
    point.path.write_bytes(point.path.read_bytes().replace(b"\na\na\nb\n", b"\na\nb\nb\n"))
    assert points.verify(point).state == "differs"


@ALL
@pytest.mark.parametrize("form", ["plain", "custom", "directory"])
def test_cut_off(crm: Target, store: Path, form: Form) -> None:
    point = take(crm, store, form=form)
    file = point.path
    if form == "directory":
        file = max(point.path.glob("*.dat*"), key=lambda one: (one.name != "toc.dat", one.stat().st_size))
    whole = file.read_bytes()
    for share in (0.1, 0.7, 0.99):
        file.write_bytes(whole[: int(len(whole) * share)])
        verdict = points.verify(point)
        assert verdict.state in ("incomplete", "corrupt"), share
        assert verdict.message
        assert verdict.facts is None
    # A plain dump without its last byte is complete: only the manifest reveals the change.
    file.write_bytes(whole[:-1])
    assert points.verify(point).state == ("differs" if form == "plain" else verdict.state)
    file.unlink()
    assert not points.verify(point).valid


def test_a_cut_in_the_rows_is_located(crm: Target, store: Path) -> None:
    point = take(crm, store)
    whole = point.path.read_bytes()
    start = whole.index(b"COPY public.contacts")
    point.path.write_bytes(whole[: start + 500])
    verdict = points.verify(point)
    assert verdict.state == "incomplete"
    assert verdict.line == whole[:start].count(b"\n") + 1
    assert verdict.offset == start
    assert f"line {verdict.line}" in verdict.message


def test_hostile_and_foreign(crm: Target, store: Path, dump: Dump) -> None:
    path = dump(crm, store / "foreign.sql")
    (point,) = points.list_points(store)
    verdict = points.verify(point)
    assert verdict.valid
    assert verdict.facts is not None
    assert verdict.facts.rows == 552
    path.write_bytes(
        path.read_bytes().replace(b"SET lock_timeout = 0;", b"\\! touch /tmp/never\nSET lock_timeout = 0;")
    )
    (point,) = points.list_points(store)
    verdict = points.verify(point)
    assert verdict.state == "unsafe"
    assert verdict.line is not None


def test_definitions_alone_and_rows_alone_are_partial(crm: Target, store: Path, dump: Dump) -> None:
    dump(crm, store / "a.sql", "--schema-only")
    dump(crm, store / "b.sql", "--data-only")
    schema, data = (points.verify(points.find(store, name)) for name in ("a.sql", "b.sql"))
    assert (schema.state, schema.valid, schema.message) == (
        "partial",
        False,
        "it has no data, only definitions: a database restored from it would be empty",
    )
    assert schema.hint == "Give the file with the rows too: lastgood restore SCHEMA DATA --into NAME"
    assert (data.state, data.message) == (
        "partial",
        "it has no tables, only rows: no table exists to load them into",
    )


@ALL
def test_every_database_of_a_cluster_dump_is_read(crm: Target, server: EmbeddedServer, store: Path) -> None:
    path = store / "cluster.sql"
    with server.target("postgres").connect() as connection:
        others = [row[0] for row in connection.execute("SELECT datname FROM pg_database WHERE datallowconn")]
    leave_out = [f"--exclude-database={name}" for name in others if name not in (crm.dbname, "template1", "postgres")]
    connection_string, _ = crm.child()
    run(server, "pg_dumpall", "-d", connection_string, "-f", path, *leave_out)
    point = points.find(store, "cluster.sql")
    events: list[Event] = []
    assert points.read_whole(point, context=Context(events.append)).facts.rows == 552
    assert [event.text for event in events if isinstance(event, Note)] == [
        f'it is a dump of a whole cluster; "{crm.dbname}" is its only application database'
    ]
    one = points.verify(point, database=crm.dbname)
    assert one.facts is not None and one.facts.rows == 552
    nope = points.verify(point, database="nope")
    assert (nope.state, nope.hint) == (
        "unusable",
        "Name one of them: lastgood restore POINT --into NAME --database DATABASE",
    )
    text = path.read_bytes()
    second = text[text.index(b'\n--\n-- Database "crm') :]
    second = second[: second.index(b"-- PostgreSQL database dump complete") + 37]
    both = text.replace(second, second + second.replace(crm.dbname.encode(), b"other"))
    path.write_bytes(both)
    several = points.verify(point)
    assert several.state == "valid"
    assert re.fullmatch(
        r'a dump of a whole cluster, with the databases "[^,]+", "[^,]+", "other"(, "[^,]+")?; --database chooses one',
        several.message,
    )
    with pytest.raises(WhichDatabase) as error:
        points.read_whole(point)
    assert set(error.value.databases) == {"template1", "postgres", crm.dbname, "other"}
    path.write_bytes(b"contact 77\t\t".join(both.rsplit(b"contact 77\t", 1)))
    damaged = points.verify(point)
    assert damaged.state == "corrupt"
    assert damaged.message.endswith("a row of public.contacts, has 4 values instead of 3")
    assert points.verify(point, database=crm.dbname).valid


def test_a_point_that_is_read_whole_is_its_manifests_or_an_error(crm: Target, store: Path) -> None:
    point = take(crm, store)
    assert point.manifest is not None
    whole = points.read_whole(point)
    assert (whole.point, whole.facts) == (point, point.manifest.facts)
    less = point.manifest.facts.model_copy(update={"sequences": ()})
    other = replace(point, manifest=point.manifest.model_copy(update={"facts": less}))
    with pytest.raises(BadPoint) as error:
        points.read_whole(other)
    assert str(error.value) == (
        f'cannot use "{point.path}": it differs from its manifest: '
        "sequence of public.contacts_id_seq: absent expected, last value 500 found"
    )


def test_a_manifest_survives_being_written(crm: Target, store: Path) -> None:
    point = take(crm, store, label="before", kind="emergency")
    manifest = manifest_of(point.path)
    assert manifest == point.manifest
    assert manifest is not None
    assert manifest.purpose == "emergency"
    assert manifest_path(point.path).name == point.path.name + ".lastgood.json"
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert manifest_of(store / "nothing") is None


def test_a_custom_archive_whose_contents_were_changed_never_passes_with_fewer_tables(
    crm: Target, store: Path, dump: Dump
) -> None:
    store.mkdir(exist_ok=True)
    path = dump(crm, store / "crm.dump", "-Fc", "-Z0")
    whole = path.read_bytes()
    (point,) = points.list_points(store)
    tables = {table.name for table in points.read_whole(point).facts.tables}
    assert tables == {"accounts", "contacts", "schema_migrations"}
    contents = whole.index(b"TABLE DATA", whole.index(b"accounts"))
    passed = 0
    # The count of entries stands among the first bytes; the others belong to the entries themselves.
    for at in (*range(60, 100), *range(contents - 40, contents + 40, 3)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        verdict = points.verify(replace(point, size=len(whole)))
        if verdict.facts is not None and verdict.valid:
            passed += 1
            assert len(verdict.facts.tables) == 3, at
            assert verdict.facts.rows == 552, at
    assert passed < 60  # most of these bytes matter
