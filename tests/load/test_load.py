"""Loads of small dumps into a real server: the engine's work apart from the order of tasks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import LiteralString

import pytest
from psycopg import sql

from lastgood.dump.lexer.tokens import Statement
from lastgood.dump.names import Relation
from lastgood.dump.rulings import rule
from lastgood.dump.script import State
from lastgood.dump.statements import Command
from lastgood.errors import Failed
from lastgood.load import rows
from lastgood.load.loaded import Loaded
from lastgood.load.repairs import Commands, Rules
from lastgood.load.session import LoadSession
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection, Target
from lastgood.restore import restore
from tests.load.databases import dumped, one

MADE = """
CREATE TABLE public.kept (id int PRIMARY KEY, t text);
INSERT INTO public.kept SELECT i, repeat('x', 200) FROM generate_series(1, 6000) i;
CREATE INDEX kept_upper ON public.kept (upper(t));
CREATE STATISTICS public.kept_both ON id, t FROM public.kept;
CREATE TABLE public.log (id int, at timestamptz DEFAULT now());
INSERT INTO public.log SELECT i FROM generate_series(1, 100) i;
"""


@pytest.fixture
def live(server: EmbeddedServer, new_database: Callable[..., str]) -> Target:
    target = server.target(new_database("live"))
    with target.connect() as connection:
        connection.execute(MADE)
    return target


def into(target: Target, path: Path, name: str) -> Target:
    restore(target, path.parent, str(path), name)
    return target.at(name)


def test_a_table_without_a_data_section_is_restored_empty(server: EmbeddedServer, live: Target, tmp_path: Path) -> None:
    path = dumped(server, live, tmp_path / "a.sql", "--exclude-table-data=log")
    restored = into(live, path, f"{live.dbname}_r")
    assert one(restored, "SELECT count(*) FROM public.log") == 0
    assert one(restored, "SELECT count(*) FROM public.kept") == 6000


def test_rows_of_a_larger_table_are_frozen_and_its_statistics_are_there(
    server: EmbeddedServer, live: Target, tmp_path: Path
) -> None:
    path = dumped(server, live, tmp_path / "a.sql")
    restored = into(live, path, f"{live.dbname}_r")
    visible = one(restored, "SELECT relallvisible FROM pg_class WHERE relname = 'kept'")
    with_rows = one(restored, "SELECT count(DISTINCT (ctid::text::point)[0]) FROM public.kept")
    assert visible == with_rows
    for table in ("kept", "kept_upper", "log"):
        analyzed = "SELECT count(*) > 0 FROM pg_stats WHERE schemaname = 'public' AND tablename = %s"
        assert one(restored, analyzed, table) is True
    assert one(restored, "SELECT count(*) FROM pg_stats_ext WHERE statistics_name = 'kept_both'") == 1
    # Not again for the index and the statistics object.
    assert one(restored, "SELECT analyze_count FROM pg_stat_user_tables WHERE relname = 'kept'") == 1


def test_the_role_that_pg_restore_sets_is_taken_on(server: EmbeddedServer, live: Target, tmp_path: Path) -> None:
    role = f"owner_of_{live.dbname}"
    with live.connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} SUPERUSER").format(sql.Identifier(role)))
    archive = dumped(server, live, tmp_path / "a.dump", "-Fc", "--no-owner")
    script = tmp_path / "a.sql"
    subprocess.run([server.bin / "pg_restore", f"--role={role}", f"--file={script}", "--no-owner", archive], check=True)
    assert role in script.read_text()
    restored = into(live, script, f"{live.dbname}_r")
    assert one(restored, "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'kept'") == role


def test_the_first_error_ends_all_sessions_and_names_its_place(
    server: EmbeddedServer, live: Target, tmp_path: Path
) -> None:
    path = dumped(server, live, tmp_path / "a.sql")
    path.write_text(path.read_text().replace("\n7\tx", "\nseven\tx", 1))
    line = (
        path.read_text().split("\n").index(next(x for x in path.read_text().split("\n") if x.startswith("seven\t"))) + 1
    )
    with pytest.raises(Failed) as caught:
        into(live, path, f"{live.dbname}_r")
    assert caught.value.message.startswith(f'cannot load line {line} of "a.sql" (byte ')
    assert caught.value.message.endswith(
        ', rows of public.kept): invalid input syntax for type integer: "seven" [SQLSTATE 22P02]'
    )
    assert one(live, "SELECT count(*) FROM pg_database WHERE datname = %s", f"{live.dbname}_r") == 0
    assert one(live, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'lastgood load%'") == 0


@pytest.mark.postgres(18)
def test_statistics_that_the_dump_brings_are_kept(server: EmbeddedServer, live: Target, tmp_path: Path) -> None:
    with live.connect() as connection:
        connection.execute("ANALYZE public.kept")
    path = dumped(server, live, tmp_path / "a.sql", "--statistics")
    assert "pg_restore_attribute_stats" in path.read_text()
    restored = into(live, path, f"{live.dbname}_r")
    analyzed = "SELECT last_analyze IS NOT NULL FROM pg_stat_user_tables WHERE relname = %s"
    assert one(restored, analyzed, "kept") is False
    assert one(restored, "SELECT count(*) FROM pg_stats WHERE tablename = 'kept'") == 2
    assert one(restored, analyzed, "log") is True


class Counting(Commands):
    """Commands that count their messages to the server."""

    sent = 0

    def run(self, connection: Connection, command: Command, state: State = (), path: bytes | None = None) -> bool:
        self.sent += 1
        return super().run(connection, command, state, path)

    def run_together(
        self,
        connection: Connection,
        commands: Sequence[Command],
        path: bytes | None = None,
        between: Sequence[bytes] = (),
    ) -> bool:
        self.sent += 1
        return super().run_together(connection, commands, path, between)


def test_one_command_that_is_left_out_costs_few_messages(live: Target) -> None:
    texts = [f"CREATE TABLE public.t{n} (id int)" for n in range(64)]
    texts[40] = "SECURITY LABEL FOR none ON TABLE public.t1 IS 'x'"
    commands = Counting("a.sql", Rules())
    loaded = Loaded(skipped=commands.record.skipped, repaired=commands.record.repaired)
    with live.connect() as connection:
        session = LoadSession(connection, commands, loaded)
        session.run_together([rule(Statement(text.encode(), 0, n)) for n, text in enumerate(texts)])
    assert one(live, "SELECT count(*) FROM pg_tables WHERE tablename ~ '^t[0-9]'") == 63
    assert [why for _, why in loaded.skipped] == ['security label provider "none" is not loaded']
    assert commands.sent == 1 + 2 * 6


IN_ONE_BLOCK = r"""--
-- PostgreSQL database dump
--

BEGIN;
CREATE TABLE public.a (id integer CONSTRAINT a_pkey PRIMARY KEY);
SELECT pg_catalog.lo_create('77');
SELECT pg_catalog.lo_open('77', 131072);
SELECT pg_catalog.lowrite(0, '\x61');
SELECT pg_catalog.lo_close(0);
CREATE TABLE public.b (id integer CONSTRAINT b_a REFERENCES public.a);
COPY public.a (id) FROM stdin;
1
\.
COPY public.b (id) FROM stdin;
1
\.
CREATE INDEX i ON public.a (id);
COMMIT;

--
-- PostgreSQL database dump complete
--

"""


@pytest.mark.postgres(15, 18)
def test_a_block_around_the_whole_dump_is_no_block_of_one_session(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path
) -> None:
    live = server.target(new_database("live"))
    path = tmp_path / "a.sql"
    path.write_text(IN_ONE_BLOCK)
    restored = into(live, path, f"{live.dbname}_r")
    assert one(restored, "SELECT convert_from(lo_get(77), 'UTF8') || (SELECT count(*) FROM public.b)") == "a1"


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize(
    ("made", "untouched"),
    [
        ("", True),
        ("INSERT INTO public.t VALUES (1)", False),
        ("CREATE TABLE public.u (id int REFERENCES public.t)", False),
    ],
)
def test_only_a_table_that_nothing_else_has_to_do_with_is_emptied_for_frozen_rows(
    server: EmbeddedServer, new_database: Callable[..., str], made: LiteralString, untouched: bool
) -> None:
    with server.target(new_database("live")).connect() as connection:
        connection.execute("CREATE TABLE public.t (id int PRIMARY KEY)")
        if made:
            connection.execute(made)
        with connection.transaction():
            assert rows.is_untouched(connection, Relation("public", "t")) is untouched
