"""Retries, omissions by rule, and errors that stop a load, with their place in the dump."""

from __future__ import annotations

import threading

import pytest

from lastgood.context import Context
from lastgood.dump.reader import read
from lastgood.dump.statements import Command, Kind
from lastgood.errors import Failed, Interrupted
from lastgood.load.repairs import Commands, Rules, what
from tests.load.repairs.stage import EPILOGUE, PROLOGUE, Stage, Text

MAJORS = (15, 16, 17, 18)


def command(text: str) -> Command:
    """The last command of a dump."""
    found = [each for each in read(Text(PROLOGUE + text + EPILOGUE)) if isinstance(each, Command)]
    return found[-1]


@pytest.mark.postgres(15, 18)
def test_two_that_wait_for_each_other_are_not_the_end(stage: Stage) -> None:
    """The victim of a deadlock runs its command again when the other one is through."""
    stage.execute("CREATE TABLE public.a (i int PRIMARY KEY)", "CREATE TABLE public.b (i int PRIMARY KEY)")
    key = command("ALTER TABLE ONLY public.a ADD CONSTRAINT f FOREIGN KEY (i) REFERENCES public.b(i);\n")
    waits: list[float] = []
    with stage.connect() as ours, stage.connect() as theirs, stage.connect() as third:
        ours.execute("SET deadlock_timeout = '2s'")
        theirs.execute("SET deadlock_timeout = '1min'")
        ours.execute("SET lock_timeout = 0")
        pid = ours.info.backend_pid

        def over(seconds: float) -> None:
            waits.append(seconds)
            theirs.execute("COMMIT")

        theirs.execute("BEGIN")
        theirs.execute("LOCK TABLE public.b IN ACCESS EXCLUSIVE MODE")
        commands = Commands("good.sql", Rules(), wait=over)
        done: list[bool] = []
        thread = threading.Thread(target=lambda: done.append(commands.run(ours, key)))
        thread.start()
        while not third.execute(
            "SELECT FROM pg_locks WHERE pid = %s AND NOT granted AND relation = 'public.b'::regclass", [pid]
        ).rowcount:
            assert thread.is_alive()
        theirs.execute("LOCK TABLE public.a IN ACCESS EXCLUSIVE MODE")
        thread.join()
    assert done == [True]
    assert len(waits) == 1 and 0.025 <= waits[0] <= 0.075
    assert stage.rows("SELECT conname FROM pg_constraint WHERE conname = 'f'") == [("f",)]


def test_what_never_gets_through_stops_after_some_tries(stage: Stage) -> None:
    stage.execute("CREATE TABLE public.a (i int)")
    waits: list[float] = []
    with stage.connect() as ours, stage.connect() as theirs:
        theirs.execute("BEGIN")
        theirs.execute("LOCK TABLE public.a IN ACCESS EXCLUSIVE MODE")
        ours.execute("SET lock_timeout = '1ms'")
        with pytest.raises(Failed) as caught:
            Commands("good.sql", Rules(), wait=waits.append).run(ours, command("CREATE INDEX i ON public.a (i);\n"))
    assert caught.value.message == (
        'cannot load line 13 of "good.sql" (byte 269, index public.i): '
        "canceling statement due to lock timeout [SQLSTATE 55P03]"
    )
    assert caught.value.hint == ("A lock was not available in time. Find the holder in pg_locks, then run it again.")
    assert len(waits) == 8
    assert all(0.025 * 2**n <= each <= 0.075 * 2**n for n, each in enumerate(waits))


def test_a_load_that_is_to_stop_does_not_try_again(stage: Stage) -> None:
    with stage.connect() as connection, pytest.raises(Interrupted):
        Commands("good.sql", Rules(), Context(cancelled=lambda: True)).run(connection, command("CREATE SCHEMA s;\n"))
    assert stage.rows("SELECT nspname FROM pg_namespace WHERE nspname = 's'") == []


def test_a_cancellation_by_another_session_is_not_repeated(stage: Stage) -> None:
    stage.execute("CREATE TABLE public.a (i int)", "INSERT INTO public.a SELECT generate_series(1, 100000)")
    with stage.connect() as connection, pytest.raises(Failed) as caught:
        connection.execute("SET statement_timeout = '1ms'")
        Commands("good.sql", Rules()).run(connection, command("CREATE INDEX i ON public.a (i);\n"))
    assert caught.value.message == (
        'cannot load line 13 of "good.sql" (byte 269, index public.i): '
        "canceling statement due to statement timeout [SQLSTATE 57014]"
    )
    assert caught.value.hint == (
        "The statement was cancelled by an operator or by a timeout. Run the same command again."
    )


def test_nothing_goes_on_in_a_block_that_failed(stage: Stage) -> None:
    """What may be left out elsewhere may not be there: the server does nothing more until the block ends."""
    with stage.connect() as connection, pytest.raises(Failed) as caught:
        connection.execute("BEGIN")
        Commands("good.sql", Rules()).run(connection, command("COMMENT ON EXTENSION nosuch IS 'x';\n"))
    assert caught.value.message == (
        'cannot load line 13 of "good.sql" (byte 269, comment): extension "nosuch" does not exist [SQLSTATE 42704]'
    )


OPTIONAL = """
SET transaction_timeout = 0;
COMMENT ON EXTENSION nosuch IS 'gone';
SELECT * FROM pg_catalog.pg_restore_relation_stats(
    'version', '180000'::integer, 'schemaname', 'public', 'relname', 't', 'relpages', '1'::integer,
    'reltuples', '1'::real, 'relallvisible', '0'::integer);
"""


@pytest.mark.postgres(*MAJORS)
def test_what_nothing_depends_on_is_left_out_and_listed(stage: Stage) -> None:
    stage.execute("CREATE TABLE public.t (i integer)")
    loaded = stage.load(OPTIONAL)
    found = {what: (line, count) for (what, _), (line, count) in loaded.skipped.items()}
    expected = {"comment": (15, 1)}
    if stage.server.major < 17:
        expected["setting"] = (14, 1)
    if stage.server.major < 18:
        expected["statistics call on public.t"] = (16, 1)
    assert found == expected


@pytest.mark.postgres(*MAJORS)
def test_strict_stops_at_the_first_of_them(stage: Stage) -> None:
    message, hint = stage.fails(OPTIONAL, Rules(strict=True))
    assert message == (
        'cannot load line 14 of "good.sql" (byte 270, setting): '
        'unrecognized configuration parameter "transaction_timeout" [SQLSTATE 42704]'
        if stage.server.major < 17
        else 'cannot load line 15 of "good.sql" (byte 299, comment): extension "nosuch" does not exist [SQLSTATE 42704]'
    )
    assert hint.endswith("Without --strict it is left out, and the report lists it.")


def test_strict_stops_at_what_a_rule_leaves_out(stage: Stage) -> None:
    message, hint = stage.fails("DROP TABLE public.t;\n", Rules(strict=True))
    assert message == (
        'cannot load line 13 of "good.sql" (byte 269, drop on public.t): it drops an object, but a new database has '
        "nothing to drop"
    )
    assert hint == "Without --strict it is left out, and the report lists it."


def test_rows_that_do_not_fit_are_reported_with_their_line(stage: Stage) -> None:
    message, hint = stage.fails("CREATE TABLE public.t (i integer);\nCOPY public.t (i) FROM stdin;\n1\n2\nx\n\\.\n")
    assert message == (
        'cannot load line 17 of "good.sql" (byte 338, rows of public.t): invalid input syntax for type integer: "x" '
        "[SQLSTATE 22P02]"
    )
    assert hint == (
        "A value does not fit its type: the restore point is damaged. "
        "Run lastgood points to choose another restore point."
    )


def test_a_kind_of_command_is_reported_where_it_makes_nothing() -> None:
    assert command("COMMENT ON EXTENSION nosuch IS 'x';\n").kind is Kind.COMMENT


def test_a_row_far_down_is_reported_with_its_line_and_byte(stage: Stage) -> None:
    text = "CREATE TABLE public.t (i integer);\nCOPY public.t (i) FROM stdin;\n" + "1234567\n" * 90_000 + "oops\n\\.\n"
    message, _ = stage.fails(text)
    offset = len(PROLOGUE) + text.index("oops")
    assert message == (
        f'cannot load line 90015 of "good.sql" (byte {offset}, rows of public.t): '
        'invalid input syntax for type integer: "oops" [SQLSTATE 22P02]'
    )


def test_commands_that_are_data_are_reported_with_their_place(stage: Stage) -> None:
    text = """
CREATE TABLE public.t (i integer[]);
INSERT INTO public.t VALUES (ARRAY[1]);
INSERT INTO public.t VALUES (ARRAY['x']);
"""
    message, _ = stage.fails(text)
    offset = len(PROLOGUE) + text.index("INSERT INTO public.t VALUES (ARRAY['x'])")
    assert message == (
        f'cannot load line 16 of "good.sql" (byte {offset}, insert on public.t): '
        'column "i" is of type integer[] but expression is of type text[] [SQLSTATE 42804]'
    )


def test_a_command_for_an_existing_operator_family_has_its_name() -> None:
    text = 'ALTER OPERATOR FAMILY public."my fam" USING btree ADD FUNCTION 1 (int, bigint) public.f(int, bigint);\n'
    assert what(command(text)) == 'operator family public."my fam" using btree'
