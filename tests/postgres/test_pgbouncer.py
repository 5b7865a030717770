"""PgBouncer's console, and which of its databases lead to the live one: asked of a real PgBouncer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.config.tables import PgBouncer as Config
from lastgood.deadman.pgbouncer import Order, WatchedConsole, armed_switch
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.pgbouncer import Console, ConsoleError, ConsoleState, consoles
from lastgood.postgres.pgbouncer.console import ReportRow
from lastgood.postgres.pgbouncer.consoles import same_host
from lastgood.postgres.pgbouncer.obstacles import findings
from lastgood.postgres.server import Target
from tests.support.pooler import PgBouncer

NewPooler = Callable[..., PgBouncer]


def look(server: EmbeddedServer, live: str, *poolers: PgBouncer | str, **config: object) -> list[ConsoleState]:
    admin = tuple(each if isinstance(each, str) else each.console() for each in poolers)
    with server.target("postgres").connect() as connection:
        return list(consoles(Config(admin=admin, **config), server.target(live), connection))  # type: ignore[arg-type]  # keys of the table


def test_the_verbs(server: EmbeddedServer, new_database: Callable[..., str], new_pooler: NewPooler) -> None:
    live = new_database("Odd-name")
    pooler = new_pooler({live: f"host={server.folder} port=5432"}, ("postgres",))
    with Console(Target.parse(pooler.console())) as console:
        assert console.version().startswith("1.")
        (entry,) = console.entries()
        assert (entry.name, entry.host, entry.port, entry.database) == (live, str(server.folder), 5432, live)
        assert not entry.paused
        assert console.settings()["pool_mode"] == "transaction"
        assert console.pools() == [] or {pool.database for pool in console.pools()} == {"pgbouncer"}
        with pooler.connect(live) as client:
            client.execute("SELECT")
            (pool,) = [pool for pool in console.pools() if pool.database == live]
            assert (pool.user, pool.mode, pool.clients, pool.servers) == ("postgres", "transaction", 1, 1)
            assert console.busy_servers() == []
            with client.transaction():
                (pid,) = client.execute("SELECT pg_backend_pid()").fetchone() or (0,)
                (busy,) = console.busy_servers()
                assert (busy.database, busy.pid) == (live, pid)
                with Console(Target.parse(pooler.console())) as pausing:
                    pausing.pause(live)
                assert pooler.paused() == {live}
                console.resume(live)
        assert pooler.paused() == set()
        console.reconnect(live)
        with pytest.raises(ConsoleError, match=r"^database Odd-name_\w+ is not paused$"):
            console.resume(live)
        with pytest.raises(ConsoleError, match=r'^no such database: an"other$'):
            console.resume('an"other')
        with pytest.raises(ConsoleError, match=r"^no such database: other$"):
            console.pause("other")


def test_who_leads_to_the_live_database(
    server: EmbeddedServer, new_database: Callable[..., str], new_pooler: NewPooler
) -> None:
    live, other = new_database("crm"), new_database("other")
    here = f"host={server.folder} port=5432"
    pooler = new_pooler(
        {
            live: here,
            "alias": f"{here} dbname={live}",
            "legacy": f"{here} dbname={live} pool_mode=session",
            "through_a_link": f"host=/proc/self/root{server.folder} port=5432 dbname={live}",
            "elsewhere": f"host=/nowhere port=5432 dbname={live}",
            other: here,
            "*": here,
        },
        ("postgres",),
    )
    (state,) = look(server, live, pooler)
    assert state.problem == ""
    assert state.shown == f"user=boss host={pooler.folder} port=6432 dbname=pgbouncer"
    assert (state.user, state.may_pause) == ("boss", True)
    found = {each.name: (each.mode, each.known_by, each.paused) for each in state.databases}
    assert found == {
        live: ("transaction", "address", False),
        "alias": ("transaction", "address", False),
        "legacy": ("session", "address", False),
        "through_a_link": ("transaction", "address", False),
    }
    assert [name for name, _ in state.doubtful] == ["elsewhere"]
    assert "password" not in repr(state)


def test_an_entry_of_another_address_is_asked(
    server: EmbeddedServer, new_database: Callable[..., str], new_pooler: NewPooler
) -> None:
    """Through a second PgBouncer, whose address does not identify the server."""
    live = new_database("crm")
    near = new_pooler({live: f"host={server.folder} port=5432"}, ("postgres",))
    far = new_pooler({"crm": f"host={near.folder} port=6432 dbname={live}"}, ("postgres",))
    (state,) = look(server, live, far)
    assert [(each.name, each.known_by) for each in state.databases] == [("crm", "answer")]
    with EmbeddedServer(server.major) as copy:
        with copy.target("postgres").connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(live)))
        astray = new_pooler({live: f"host={copy.folder} port=5432"}, ("postgres",))
        (state,) = look(server, live, astray)
        assert (state.databases, state.doubtful) == ((), ())


def test_named_databases_are_taken_as_they_are(
    server: EmbeddedServer, new_database: Callable[..., str], new_pooler: NewPooler
) -> None:
    live = new_database("crm")
    pooler = new_pooler({"a": f"host=db.example.org dbname={live}", "b": f"host={server.folder} dbname={live}"})
    (state,) = look(server, live, pooler, databases=("a", "c"))
    assert [(each.name, each.known_by) for each in state.databases] == [("a", "name")]
    assert state.missing == ("c",)


def test_consoles_that_do_not_help(
    server: EmbeddedServer, new_database: Callable[..., str], new_pooler: NewPooler
) -> None:
    live = new_database("crm")
    pooler = new_pooler({live: f"host={server.folder} port=5432"}, ("postgres",))
    closed, stranger, looker = look(
        server, live, "host=/nowhere port=1 user=boss", pooler.console("postgres"), pooler.console("looker")
    )
    assert closed.problem == "No such file or directory"
    assert stranger.problem == "not allowed"
    assert (looker.problem, looker.may_pause) == ("", False)
    assert [each.name for each in looker.databases] == [live]


def test_the_findings_before_the_switch(
    server: EmbeddedServer, new_database: Callable[..., str], new_pooler: NewPooler
) -> None:
    live = new_database("crm")
    pooler = new_pooler(
        {live: f"host={server.folder} port=5432", "old": f"host={server.folder} dbname={live} pool_mode=session"},
        server_login_retry="15",
        query_wait_timeout="20",
    )
    boss, looker = (f"user={user} host={pooler.folder} port=6432 dbname=pgbouncer" for user in ("boss", "looker"))
    place = f"PgBouncer at {pooler.folder}:6432"

    def findings_of(user: str, *, fence_now: bool = False, **config: object) -> list[tuple[str, str, str]]:
        found = Config(admin=(pooler.console(user),), **config)  # type: ignore[arg-type]  # keys of the table
        states = look(server, live, pooler.console(user), **config)
        risks = findings(states, found, live, fence_now=fence_now)
        assert {each.level for each in risks} <= {"caution"}
        return [(each.code, each.text, each.hint) for each in risks]

    session_mode = (
        "pgbouncer_session_mode",
        f'"old" of {place} pools sessions: clients that are connected at the switch are not paused and lose their '
        "connections",
        "Set pool_mode = transaction to keep these connections.",
    )
    too_short = (
        "pgbouncer_query_wait_timeout",
        f"{place} disconnects clients that wait longer than 20 s (query_wait_timeout); the switch may take 25 s",
        f"Raise the limit: psql '{boss}' -c 'SET query_wait_timeout = 25'; or lower pause_limit in lastgood.toml.",
    )
    assert findings_of("boss") == [session_mode, too_short]
    assert findings_of("boss", pause_limit=3) == [session_mode]
    assert findings_of("boss", pause_limit=3, fence_now=True) == [
        (
            "pgbouncer_and_fence",
            f'writers that wait for the fence keep server connections of "{live}" of {place} busy: when none is '
            "free, readers wait too; and at the switch these writers' transactions fail",
            "Use --fence at-swap: then no client waits before the switch, and no query fails.",
        ),
        session_mode,
    ]
    assert findings_of("looker", pause_limit=3) == [
        (
            "pgbouncer_no_admin",
            f'{place} does not allow "looker" to pause clients: it is not one of its admin_users; queries that are '
            "running at the switch fail",
            'Add "looker" to admin_users in pgbouncer.ini and run RELOAD on its console, or set another user in '
            "lastgood.toml.",
        ),
        session_mode,
        (
            "pgbouncer_server_login_retry",
            f"{place} waits 15 s after a failed login to the server before it retries (server_login_retry): if one "
            "fails at the switch, its clients wait that long",
            f"Shorten it: psql '{looker}' -c 'SET server_login_retry = 1'",
        ),
    ]
    assert findings_of("boss", pause_limit=3, databases=("new",)) == [
        (
            "pgbouncer_no_such_database",
            f'{place} has no database "new" now; with the fallback * it creates one when a client requests it',
            f"List its databases: psql '{boss}' -c 'SHOW DATABASES'",
        )
    ]
    pooler.ask("PAUSE old")
    assert findings_of("boss", pause_limit=3)[0] == (
        "pgbouncer_paused",
        f'"old" of {place} was already paused by another session: 0 clients wait, and the run leaves it paused',
        f"To resume it: psql '{boss}' -c 'RESUME \"old\"'",
    )


def test_where_clients_cannot_be_paused(
    server: EmbeddedServer, new_database: Callable[..., str], new_pooler: NewPooler
) -> None:
    live = new_database("crm")
    pooler = new_pooler({"other": f"host={server.folder}", "far": f"host=/nowhere dbname={live}"})
    closed = "host=/nowhere port=1 user=boss"
    config = Config(admin=(closed, pooler.console("postgres"), pooler.console()))
    found = findings(look(server, live, *config.admin), config, live)
    psql = "psql 'user={} host={} port={} dbname=pgbouncer' -c 'SHOW VERSION'"
    assert [(each.code, each.text, each.hint) for each in found] == [
        (
            "pgbouncer_unreachable",
            "cannot use the console of PgBouncer at /nowhere:1 to pause clients: No such file or directory; queries "
            "that are running at the switch fail",
            "To test it: " + psql.format("boss", "/nowhere", 1),
        ),
        (
            "pgbouncer_unreachable",
            f'cannot use the console of PgBouncer at {pooler.folder}:6432 to pause clients: "trust" authentication '
            "failed; queries that are running at the switch fail",
            "Put its password in ~/.pgpass (HOST:PORT:pgbouncer:USER:PASSWORD). To test it: "
            + psql.format("postgres", pooler.folder, 6432),
        ),
        (
            "pgbouncer_doubtful_database",
            f'cannot determine whether "far" of PgBouncer at {pooler.folder}:6432 leads to "{live}": "trust" '
            "authentication failed; its clients are not paused",
            'If it does, add it in lastgood.toml: [pgbouncer] databases = ["far"]',
        ),
    ]
    elsewhere = new_pooler({"other": f"host={server.folder}"})
    config = Config(admin=(elsewhere.console(),))
    (only,) = findings(look(server, live, elsewhere), config, live)
    assert (only.code, only.text) == (
        "pgbouncer_leads_elsewhere",
        f'PgBouncer at {elsewhere.folder}:6432 has no database that leads to "{live}": there are no clients to pause',
    )


@pytest.mark.parametrize(
    ("host", "ours", "here", "same"),
    [
        ("db.example.org", ("db.example.org", "192.0.2.7"), False, True),
        ("192.0.2.7", ("db.example.org", "192.0.2.7"), False, True),
        ("db2.example.org", ("db.example.org", "192.0.2.7"), True, False),
        ("127.0.0.1", ("localhost", "127.0.0.1"), True, True),
        ("127.0.0.1", ("localhost", "127.0.0.1"), False, False),
        ("127.0.0.1", ("db.example.org", "192.0.2.7"), False, False),
        ("/run/postgresql", ("/run/postgresql", ""), True, True),
        ("/run/postgresql/", ("/run/postgresql", ""), True, True),
        ("/run/postgresql", ("/tmp", ""), True, False),
        ("/run/postgresql", ("localhost", "127.0.0.1"), True, False),
        (None, ("/run/postgresql", ""), True, False),
    ],
)
def test_only_a_certain_address_counts(host: str | None, ours: tuple[str, str], here: bool, same: bool) -> None:
    """What is not certain is asked through PgBouncer."""
    assert same_host(host, *ours, here=here) is same


def test_a_password_comes_from_where_libpq_finds_it(
    server: EmbeddedServer,
    new_database: Callable[..., str],
    new_pooler: NewPooler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = new_database("crm")
    pooler = new_pooler({live: f"host={server.folder} port=5432"}, password="geheim", auth_type="scram-sha-256")
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    (state,) = look(server, live, pooler)
    assert state.problem == "fe_sendauth: no password supplied"
    psql = f"psql 'user=boss host={pooler.folder} port=6432 dbname=pgbouncer' -c 'SHOW VERSION'"
    (risk,) = findings([state], Config(admin=(pooler.console(),)), live)
    assert risk.hint == (f"Put its password in ~/.pgpass (HOST:PORT:pgbouncer:USER:PASSWORD). To test it: {psql}")
    (tmp_path / "pgpass").write_text(f"{pooler.folder}:6432:pgbouncer:boss:geheim\n")
    (tmp_path / "pgpass").chmod(0o600)
    (state,) = look(server, live, pooler)
    assert (state.problem, state.may_pause, len(state.databases)) == ("", True, 1)
    watched = WatchedConsole(state.target, (live,), {})
    with armed_switch(Order((watched,), 60.0, tmp_path / "no journal")) as switch:
        switch.dismiss()


def test_a_server_that_is_no_pgbouncer_is_reported(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    """Somebody gave the address of PostgreSQL itself, and it even has a database of that name."""
    live = new_database("crm")
    with server.target("postgres").connect() as connection:
        connection.execute("CREATE DATABASE pgbouncer")
        try:
            (state,) = look(server, live, f"host={server.folder} port=5432 user=postgres")
        finally:
            connection.execute("DROP DATABASE pgbouncer")
    assert state.problem == 'unrecognized configuration parameter "config"'
    with pytest.raises(ConsoleError, match=r'^its answer has no column "paused": it may not be PgBouncer 1\.12'):
        ReportRow(name="app")["paused"]
