"""The data sets have their documented shape, and the same rows every time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench import data, effort
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection

SHAPE = """
SELECT (SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace),
       (SELECT count(*) FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
        WHERE relnamespace = 'public'::regnamespace AND indisprimary),
       (SELECT count(*) FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
        WHERE relnamespace = 'public'::regnamespace AND NOT indisprimary),
       (SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace)
"""


# (tables, primary keys, other indexes, foreign keys)
@pytest.mark.parametrize(
    ("name", "scale", "shape"),
    [
        ("crm", 0.0005, (4, 4, 7, 5)),
        ("giant", 0.0005, (1, 1, 2, 0)),
        ("small", 0.01, (20, 20, 20, 6)),
        ("keys", 0.01, (20, 20, 40, 40)),
        ("keys-few", 0.1, (24, 24, 48, 48)),
        ("wide", 0.001, (2, 2, 3, 1)),
        ("indexes", 0.001, (8, 8, 80, 13)),
        ("pgbench", 0.0002, (4, 3, 0, 5)),
    ],
)
def test_the_shape(
    server: EmbeddedServer, new_database: Callable[..., str], name: str, scale: float, shape: tuple[int, ...]
) -> None:
    with server.target(new_database("bench")).connect() as connection:
        data.make(connection, name, scale)
        assert connection.execute(SHAPE).fetchone() == shape
        assert connection.execute("SELECT to_regnamespace('bench')").fetchone() == (None,)


@pytest.mark.postgres(15, 18)
def test_rows_are_the_same_on_every_server(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    with server.target(new_database("bench")).connect() as connection:
        data.make(connection, "crm", 0.0001)
        assert _digest(connection) == "7d34f10dbede4813529af8119c27e409"


def test_documents_have_1_to_100_kilobytes(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    with server.target(new_database("bench")).connect() as connection:
        data.make(connection, "wide", 0.02)
        connection.execute("SET search_path = public")
        row = connection.execute(
            "SELECT min(length(raw::text)), max(length(raw::text)) FROM public.messages"
        ).fetchone()
        assert row is not None
        assert 700 < row[0] < 1_500
        assert 80_000 < row[1] < 110_000


def test_the_servers_work_is_counted(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    with server.target(new_database("bench")).connect() as connection, effort.of_server(server) as work:
        connection.execute("CREATE TABLE public.t AS SELECT md5(i::text) FROM generate_series(1, 200000) AS i")
        connection.execute("SELECT pg_switch_wal()")
    assert work.processor > 0.05
    assert work.wal > 10_000_000


def _digest(connection: Connection) -> str:
    (digest,) = connection.execute(
        "SELECT md5(string_agg(a::text, '|' ORDER BY id)) FROM public.activities AS a"
    ).fetchone() or ("",)
    return str(digest)
