"""Completion of deferred work: after any interruption nothing is missing in the end, and no session waits for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql

from lastgood import fault
from lastgood.context import Context
from lastgood.dump.deferred_task import DeferredTask
from lastgood.dump.names import Relation
from lastgood.dump.statements import Kind
from lastgood.errors import Failed, Interrupted, Refused, Stopped
from lastgood.events import Event, Note, Progress
from lastgood.load.deferred import lists, remainder, work
from lastgood.load.deferred.work import Finished, finish
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.pressure.rules import Limits
from tests.support.waiting import until

ALL = pytest.mark.postgres(15, 16, 17, 18)
RUN = "20261123-020000-0123abcd"

A = DeferredTask(
    Kind.INDEX, Relation("public", "t"), "t_a", (), ("CREATE INDEX CONCURRENTLY t_a ON public.t USING btree (a)",)
)
GONE = DeferredTask(
    Kind.INDEX, Relation("public", "gone"), "g", (), ("CREATE INDEX CONCURRENTLY g ON public.gone (x)",)
)
B = DeferredTask(
    Kind.INDEX,
    Relation("public", "t"),
    "t_b",
    ("SELECT pg_catalog.set_config('search_path', '', false)",),
    (
        "CREATE INDEX CONCURRENTLY t_b ON public.t USING btree (abs(b))",
        "COMMENT ON INDEX public.t_b IS 'b''s own'",
        "ALTER TABLE public.t CLUSTER ON t_b",
    ),
)
KEY = DeferredTask(
    Kind.FOREIGN_KEY, Relation("public", "t"), "t_p", (), ("ALTER TABLE public.t VALIDATE CONSTRAINT t_p",)
)


class Scene:
    """A database with the table t that waits for what is on its list."""

    def __init__(self, server: EmbeddedServer, name: str) -> None:
        self.server, self.name = server, name
        self.target = server.target(name)
        self.events: list[Event] = []
        self.stop = threading.Event()
        self.context = Context(self.events.append, self.stop.is_set)
        with self.connect() as connection:
            connection.execute("CREATE TABLE public.p (id int PRIMARY KEY)")
            connection.execute("INSERT INTO public.p SELECT generate_series(0, 9)")
            connection.execute("CREATE TABLE public.t (a int, b int, p int)")
            connection.execute("INSERT INTO public.t SELECT i, -i, i % 10 FROM generate_series(1, 3000) i")
            connection.execute("ALTER TABLE public.t ADD CONSTRAINT t_p FOREIGN KEY (p) REFERENCES public.p NOT VALID")
            row = connection.execute("SELECT oid::int8 FROM pg_database WHERE datname = %s", [name]).fetchone()
            assert row is not None
            self.oid: int = row[0]
            remainder.write(connection, RUN, [A, B, KEY])

    def connect(self, name: str = "") -> psycopg.Connection:
        return self.server.target(name or self.name).connect()

    def states(self) -> list[str]:
        with self.connect() as connection:
            return [task.state for task in remainder.read(connection, RUN)]

    def runs(self) -> list[str]:
        with self.connect() as connection:
            return remainder.runs(connection)

    def finish(self, *, trusted: bool = False) -> Finished:
        return finish(self.target, RUN, self.context, oid=self.oid, trusted=trusted)

    def whole(self) -> bool:
        """Is everything there, and the list gone?"""
        with self.connect() as connection:
            row = connection.execute("""
                SELECT (SELECT count(*) FROM pg_index WHERE indrelid = 'public.t'::regclass AND indisvalid) = 2
                   AND (SELECT convalidated FROM pg_constraint WHERE conname = 't_p')
                   AND obj_description('public.t_b'::regclass, 'pg_class') = 'b''s own'
                   AND (SELECT indisclustered FROM pg_index WHERE indexrelid = 'public.t_b'::regclass)
                   AND EXISTS (SELECT FROM pg_stats WHERE tablename = 't_b')
                   AND EXISTS (SELECT FROM pg_stats WHERE tablename = 'p')
                   AND NOT EXISTS (SELECT FROM pg_namespace WHERE nspname LIKE 'lastgood%')""").fetchone()
        return row is not None and bool(row[0])

    def working(self) -> list[int]:
        """The server processes that finish."""
        with self.connect("postgres") as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = %s", [f"lastgood finish {RUN}"]
            )
            return [row[0] for row in rows]

    def details(self) -> list[str]:
        return [event.detail for event in self.events if isinstance(event, Progress)]


@pytest.fixture
def scene(server: EmbeddedServer, new_database: Callable[..., str]) -> Scene:
    return Scene(server, new_database())


@ALL
def test_everything_on_the_list_is_done_and_the_list_goes(scene: Scene) -> None:
    assert scene.states() == ["open", "open", "open"]
    done = scene.finish()
    assert (done.indexes, done.foreign_keys, done.gone) == (2, 1, ())
    assert str(done) == "2 indexes built, 1 foreign key validated, 2 tables analyzed"
    assert scene.whole()
    assert scene.runs() == []
    assert [event for event in scene.events if isinstance(event, Note)] == []


@ALL
def test_no_session_waits_for_it_and_it_waits_only_briefly(scene: Scene) -> None:
    """An open transaction that has written keeps CREATE INDEX CONCURRENTLY waiting; meanwhile others write on."""
    with scene.connect() as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN")
        other.execute("UPDATE public.t SET a = a + 1 WHERE a = 5")
        working = pool.submit(scene.finish)
        waits = f'index public.t_a: waiting for process {other.info.backend_pid} of "postgres" (lastgood), in a trans'
        until(lambda: any(detail.startswith(waits) for detail in scene.details()))
        with scene.connect() as writer:
            writer.execute("SET lock_timeout = '2s'")
            writer.execute("UPDATE public.t SET b = 0 WHERE a = 7")
            writer.execute("DELETE FROM public.p WHERE id = 77")
        other.execute("COMMIT")
        working.result()
    assert scene.whole()


@ALL
@pytest.mark.parametrize("point", ["finish.before_task", "finish.after_index", "finish.before_forget"])
def test_cut_off_at_any_point_it_is_begun_again(scene: Scene, point: str) -> None:
    """A power cut of the tool: its session is gone, nothing was tidied up."""

    class Cut(Exception):
        pass

    def cut() -> None:
        raise Cut

    with fault.armed(point, cut), pytest.raises(Cut):
        scene.finish()
    assert scene.runs() == [RUN]
    scene.finish()
    assert scene.whole()


@ALL
def test_an_interrupted_index_build_is_begun_again(scene: Scene) -> None:
    with scene.connect() as other:
        other.execute("BEGIN")
        other.execute("UPDATE public.t SET a = a + 1 WHERE a = 5")
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(scene.finish)
            until(lambda: scene.states()[0] == "invalid")
            scene.stop.set()
            with pytest.raises(Interrupted, match="interrupted"):
                working.result()
        assert scene.states()[0] == "invalid"
        other.execute("COMMIT")
    scene.stop.clear()
    scene.finish()
    assert scene.whole()


def test_a_session_that_was_ended_is_replaced(scene: Scene) -> None:
    """By an administrator, or by a server that restarts: the same work continues in another."""
    with scene.connect() as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN")
        other.execute("UPDATE public.t SET a = a + 1 WHERE a = 5")
        working = pool.submit(scene.finish)
        until(lambda: scene.states()[0] == "invalid")
        (first,) = scene.working()
        other.execute("SELECT pg_terminate_backend(%s)", [first])
        until(lambda: bool(scene.working()) and scene.working() != [first])
        other.execute("COMMIT")
        working.result()
    assert scene.whole()


def test_only_one_session_can_finish_a_run(scene: Scene) -> None:
    with scene.connect() as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN")
        other.execute("UPDATE public.t SET a = a + 1 WHERE a = 5")
        working = pool.submit(scene.finish)
        until(lambda: scene.states()[0] == "invalid")
        with pytest.raises(Refused) as raised:
            scene.finish()
        other.execute("COMMIT")
        working.result()
    assert str(raised.value) == f'cannot finish run "{RUN}": another session is already finishing it'
    assert raised.value.hint == "Check its progress: lastgood status"
    assert raised.value.state == f'"{scene.name}" is open.'


def test_what_a_dead_process_left_at_work_is_ended(scene: Scene) -> None:
    """Its server process keeps building until it notices; the next session does not wait for it."""
    with scene.connect() as other:
        other.execute("BEGIN")
        other.execute("UPDATE public.t SET a = a + 1 WHERE a = 5")
        with ThreadPoolExecutor(2) as pool:
            orphan = scene.target.connect(application_name=f"lastgood finish {RUN}")
            building = pool.submit(orphan.execute, A.statements[0].encode())
            until(lambda: scene.states()[0] == "invalid")
            working = pool.submit(scene.finish)
            with pytest.raises(psycopg.errors.AdminShutdown):
                building.result()
            other.execute("COMMIT")
            working.result()
    assert scene.whole()


def test_what_was_dropped_meanwhile_is_not_missed(scene: Scene) -> None:
    with scene.connect() as connection:
        connection.execute("ALTER TABLE public.t DROP CONSTRAINT t_p")
        remainder.write(connection, RUN, [A, GONE, KEY])
    assert scene.states() == ["open", "gone", "gone"]
    done = scene.finish()
    assert done.indexes == 1
    assert done.gone == ("index public.g", "foreign key t_p on public.t")
    assert [event.text for event in scene.events if isinstance(event, Note)] == [
        "index public.g is no longer needed: it or its table was dropped or renamed",
        "foreign key t_p on public.t is no longer needed: it or its table was dropped or renamed",
    ]
    assert scene.runs() == []


def test_what_the_server_refuses_is_reported_and_the_rest_is_done(scene: Scene) -> None:
    with scene.connect() as connection:
        # As after a session disabled foreign keys, once the database was reopened.
        connection.execute("SET session_replication_role = replica")
        connection.execute("INSERT INTO public.t VALUES (0, 0, 4711)")
        connection.execute("CREATE TABLE public.t_a (taken int)")
    with pytest.raises(Stopped) as raised:
        scene.finish()
    assert str(raised.value) == (
        f'cannot finish run "{RUN}": 2 of 3 failed\n'
        '  cannot build index public.t_a: relation "t_a" already exists\n'
        '  cannot validate foreign key t_p on public.t: insert or update on table "t" violates foreign key constraint '
        '"t_p"'
    )
    assert raised.value.hint == f"Fix the cause, then run: lastgood resume {RUN}"
    assert raised.value.state == f'"{scene.name}" is the restored database, open and complete in its data.'
    assert scene.states() == ["open", "done", "open"]
    with scene.connect() as connection:
        connection.execute("DELETE FROM public.t WHERE p = 4711")
        connection.execute("DROP TABLE public.t_a")
    scene.finish()
    assert scene.whole()


def test_a_table_that_is_locked_for_long_is_tried_again_and_then_skipped(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "TRIES", 2)
    monkeypatch.setattr(work, "SHORT_WAIT", "50ms")
    with scene.connect() as connection:
        remainder.write(connection, RUN, [KEY])
    with scene.connect() as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN")
        other.execute("LOCK TABLE public.p IN ACCESS EXCLUSIVE MODE")
        working = pool.submit(scene.finish)
        with pytest.raises(Stopped) as raised:
            working.result()
    assert str(raised.value) == (
        f'cannot finish run "{RUN}": 1 of 1 failed\n'
        "  cannot validate foreign key t_p on public.t: canceling statement due to lock timeout"
    )
    scene.finish()
    with scene.connect() as connection:
        assert connection.execute("SELECT convalidated FROM pg_constraint WHERE conname = 't_p'").fetchone() == (True,)


def test_a_database_that_was_switched_away_is_left_alone(scene: Scene) -> None:
    other = scene.oid + 1
    with pytest.raises(Stopped) as raised:
        finish(scene.target, RUN, scene.context, oid=other)
    assert str(raised.value) == f'cannot continue finishing run "{RUN}": "{scene.name}" is now another database'
    assert raised.value.state == f'"{scene.name}" is open.'
    assert scene.states() == ["open", "open", "open"]


@ALL
def test_event_triggers_that_forbid_ddl_do_not_keep_it_from_being_done(scene: Scene) -> None:
    with scene.connect() as connection:
        connection.execute(
            "CREATE FUNCTION public.no() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$"
        )
        connection.execute("CREATE EVENT TRIGGER no ON ddl_command_start EXECUTE FUNCTION public.no()")
    scene.finish()
    assert scene.whole()


@pytest.mark.postgres(15)
def test_event_triggers_that_cannot_be_turned_off_do_not_fire(scene: Scene) -> None:
    with scene.connect() as connection:
        connection.execute("CREATE TABLE public.fired ()")
        connection.execute(
            "CREATE FUNCTION public.fire() RETURNS event_trigger LANGUAGE plpgsql AS"
            " $$BEGIN INSERT INTO public.fired DEFAULT VALUES; END$$"
        )
        for name, enabled in (("a", "ALWAYS"), ("r", "REPLICA")):
            connection.execute(
                f"CREATE EVENT TRIGGER {name} ON ddl_command_start EXECUTE FUNCTION public.fire()".encode()
            )
            connection.execute(f"ALTER EVENT TRIGGER {name} ENABLE {enabled}".encode())
    with pytest.raises(Stopped) as raised:
        scene.finish()
    assert 'event triggers enabled as ALWAYS or REPLICA would run with the rights of "postgres"' in raised.value.message
    with scene.connect() as connection:
        remainder.forget(connection, RUN)
        assert connection.execute("SELECT FROM public.fired").fetchall() == []
        query = "SELECT evtenabled::text FROM pg_event_trigger ORDER BY evtname"
        assert connection.execute(query).fetchall() == [("A",), ("R",)]
    assert scene.runs() == []


def test_a_list_of_another_origin_is_not_run(scene: Scene) -> None:
    with scene.connect() as connection:
        connection.execute(
            sql.SQL("UPDATE {}.unfinished SET statements = ARRAY['DROP TABLE public.t'] WHERE number = 2").format(
                sql.Identifier(lists.schema_of(RUN))
            )
        )
    with pytest.raises(Refused) as raised:
        scene.finish()
    assert str(raised.value) == (
        f'cannot finish run "{RUN}": its list in "{scene.name}" has statements that lastgood does not write'
    )
    assert raised.value.hint == (
        f'Check the table "lastgood_{RUN}"."unfinished"; if it is not needed, run: DROP SCHEMA "lastgood_{RUN}" CASCADE'
    )


def test_a_list_of_another_role_is_not_read(scene: Scene) -> None:
    role = f"reader_{os.getpid()}"
    with scene.connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    try:
        with (
            scene.server.target(scene.name, user=role).connect() as connection,
            pytest.raises(Refused) as raised,
        ):
            remainder.read(connection, RUN)
        assert str(raised.value) == (
            f'cannot read the deferred work of run "{RUN}": permission denied for schema lastgood_{RUN}'
        )
        assert raised.value.hint == "Connect as a superuser, or as the role that began the run."
    finally:
        with scene.connect() as connection:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


# What a restore point or another role could have made in place of a list.
CHANGED = (
    "ALTER TABLE {list} OWNER TO {role}",
    "ALTER SCHEMA {schema} OWNER TO {role}",
    "CREATE INDEX ON {list} (kind) WHERE name > 'x'",
    "ALTER TABLE {list} ADD CHECK (number > 0)",
    "CREATE TYPE public.kind AS (x text); ALTER TABLE {list} ADD x public.kind",
)


def test_a_list_that_could_run_code_is_ignored(scene: Scene) -> None:
    role, schema = f"lister_{os.getpid()}", f'"{lists.schema_of(RUN)}"'
    with scene.connect() as connection:
        connection.execute(f"CREATE ROLE {role}".encode())
        try:
            for changed in CHANGED:
                command = changed.format(list=f"{schema}.unfinished", schema=schema, role=role)
                with connection.transaction(force_rollback=True):
                    connection.execute(command.encode())
                    assert lists.runs(connection) == [], changed
                    with pytest.raises(Refused) as raised:
                        remainder.read(connection, RUN)
        finally:
            connection.execute(f"DROP ROLE {role}".encode())
    assert str(raised.value) == (
        f'cannot read the deferred work of run "{RUN}": the table {schema}."unfinished" belongs to another role, or '
        "has definitions that lastgood does not make"
    )
    assert raised.value.hint == "Connect as the role that began the run."
    assert scene.runs() == [RUN]


CODE = """
CREATE FUNCTION public.imm(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';
CREATE DOMAIN public.d AS int CHECK (public.imm(VALUE) IS NOT NULL);
ALTER TABLE public.p ADD CONSTRAINT c CHECK (public.imm(1) > 0) NOT VALID;
"""
INDEXES = ("public.imm(a)", "(a::public.d)", "a) WHERE (lower('A') = 'a'")


def test_what_runs_code_as_the_operator_is_left_to_others(scene: Scene) -> None:
    statements = [f"CREATE INDEX CONCURRENTLY i{number} ON public.t ({each})" for number, each in enumerate(INDEXES)]
    indexes = [DeferredTask(Kind.INDEX, A.table, f"i{n}", (), (each,)) for n, each in enumerate(statements)]
    with scene.connect() as connection:
        connection.execute(CODE.encode())
        remainder.write(connection, RUN, [*indexes, KEY])
    with pytest.raises(Stopped) as raised:
        scene.finish()
    why = 'functions would run with the rights of "postgres"{}; to do it, run: {}'
    failures = [
        f"cannot build index public.i{number}: " + why.format(", the owner of public.t", statements[number])
        for number in (0, 1)
    ]
    failures.append("cannot validate foreign key t_p on public.t: " + why.format("", KEY.statements[0]))
    assert str(raised.value) == f'cannot finish run "{RUN}": 3 of 4 failed' + "".join(f"\n  {f}" for f in failures)
    scene.finish(trusted=True)
    assert scene.runs() == []


def test_a_list_is_replaced_and_forgotten_with_nothing_else(scene: Scene) -> None:
    with scene.connect() as connection:
        remainder.write(connection, RUN, [KEY])
        assert [task.later for task in remainder.read(connection, RUN)] == [KEY]
        connection.execute(
            sql.SQL("CREATE VIEW public.mine AS SELECT * FROM {}.unfinished").format(
                sql.Identifier(lists.schema_of(RUN))
            )
        )
        with pytest.raises(psycopg.errors.DependentObjectsStillExist):
            remainder.forget(connection, RUN)
        connection.execute("DROP VIEW public.mine")
        remainder.forget(connection, RUN)
        remainder.forget(connection, RUN)
        assert remainder.runs(connection) == []


def test_a_schema_that_is_only_named_alike_is_no_list(scene: Scene) -> None:
    with scene.connect() as connection:
        for name in ("lastgood_../../x", "lastgood_20261123-020000-0123abcd\n", "lastgood_mine", "lastgood_"):
            schema = sql.Identifier(name)
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            connection.execute(sql.SQL("CREATE TABLE {}.unfinished (x int)").format(schema))
        empty = sql.Identifier("lastgood_20261123-020000-0123abce")
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(empty))
    assert scene.runs() == [RUN]


def test_a_server_that_runs_out_of_room_is_not_driven_on(scene: Scene) -> None:
    limits = Limits(least_free=1 << 60)
    with pytest.raises(Failed) as raised:
        finish(scene.target, RUN, scene.context, oid=scene.oid, limits=limits)
    assert str(raised.value).startswith("cannot continue loading: the disk of ")
    assert scene.states() == ["open", "open", "open"]
    scene.finish()
    assert scene.whole()
