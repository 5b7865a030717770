"""Which indexes wait: what the statistics say, and what is done where they say nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lastgood.dump.deferral import Deferrable
from lastgood.load.deferred.choice import built, choose
from lastgood.postgres.embedded import EmbeddedServer
from tests.dump.test_deferral import HEAD, KEY, script_of

DUMP = HEAD + (KEY + "CREATE INDEX i ON public.t (q);CREATE INDEX j ON public.t (body);").encode()
DUMP += b"\n--\n-- PostgreSQL database dump complete\n--\n\n"


@pytest.fixture
def deferrable() -> Deferrable:
    return Deferrable.of(script_of(DUMP))


@pytest.fixture
def live(server: EmbeddedServer, new_database: Callable[..., str]) -> str:
    name = new_database()
    with server.target(name).connect() as connection:
        connection.execute("CREATE TABLE public.t (q int, body text)")
        connection.execute("INSERT INTO public.t SELECT i, i FROM generate_series(1, 100) i")
    return name


def used(server: EmbeddedServer, live: str, *columns: str) -> None:
    with server.target(live).connect() as connection:
        connection.execute("SET enable_seqscan = off")
        for column in columns:
            connection.execute(f"SELECT FROM public.t WHERE {column} = '7'".encode())
        connection.execute("SELECT pg_stat_force_next_flush()")


@pytest.mark.postgres(15, 16, 17, 18)
@pytest.mark.parametrize(
    ("made", "looked_for", "replacing", "separate"),
    [
        ("i q, j body", "q", ["j"], ["j"]),
        ("i q", "q", [], ["j"]),
        ("i q, j body", "q body", [], []),
        ("i q, j body", "", [], ["i", "j"]),
        ("", "", [], ["i", "j"]),
    ],
)
def test_what_waits(
    server: EmbeddedServer,
    live: str,
    deferrable: Deferrable,
    made: str,
    looked_for: str,
    replacing: list[str],
    separate: list[str],
) -> None:
    with server.target(live).connect() as connection:
        for each in filter(None, made.split(", ")):
            connection.execute("CREATE INDEX {} ON public.t ({})".format(*each.split()).encode())
        used(server, live, *looked_for.split())
        for replaces, expected in ((True, replacing), (False, separate)):
            chosen = choose(connection, deferrable, replaces=replaces)
            assert [index.name for index in chosen.division.indexes] == expected
            assert [name for _, name in chosen.division.not_valid_keys] == ["k"]
            if not looked_for:
                assert chosen.remarks == (
                    f'no index of "{live}" has been used since its statistics were reset: 2 indexes that '
                    f"could be deferred are built {'before' if replaces else 'after'} the reopening",
                )


def test_a_dump_without_such_indexes_needs_no_statistics(server: EmbeddedServer, live: str) -> None:
    with server.target(live).connect() as connection:
        assert choose(connection, Deferrable(), replaces=True).remarks == ()


def test_what_another_process_left_out_is_what_is_not_there(
    server: EmbeddedServer, live: str, deferrable: Deferrable
) -> None:
    with server.target(live).connect() as connection:
        connection.execute("CREATE INDEX j ON public.t (body)")
        assert [str(later) for later in built(connection, deferrable).later] == [
            "index public.i",
            "foreign key k on public.t",
        ]
