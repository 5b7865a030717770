"""Row 5: "Stop the application: maintenance mode, stop services, or read-only database": hooks for the platform's own
commands and a fence that blocks writers, with the proof."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.lock import lock_live, read_nothing
from tests.cli.conftest import Lastgood
from tests.cli.conftest import child_environment as child_environment
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import database as database
from tests.cli.conftest import lastgood as lastgood
from tests.mission.site import Site
from tests.mission.site import broken as broken
from tests.mission.site import site as site
from tests.support import forked_cli
from tests.support.waiting import until

PATIENCE = 30.0


@contextmanager
def writer(server: EmbeddedServer, database: str, site: Site) -> Iterator[list[int]]:
    """A worker of the application: it writes until the application is stopped; gives what was acknowledged."""
    over, acknowledged = threading.Event(), list[int]()

    def work() -> None:
        number = 1000
        while not over.is_set():
            if site.is_stopped():
                over.wait(0.01)
                continue
            number += 1
            try:
                with server.target(database).connect(application_name="worker") as connection:
                    connection.execute("SET statement_timeout = '20s'")
                    connection.execute("INSERT INTO public.contacts VALUES (%s, 'written', now())", [number])
                    acknowledged.append(number)
            except psycopg.Error:
                continue  # the switch ended it; a worker comes back

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield acknowledged
    finally:
        over.set()
        thread.join()


@pytest.mark.postgres(15, 16, 17, 18)
def test_the_application_is_stopped_before_and_started_after_the_switch(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str, site: Site
) -> None:
    site.configure()
    with writer(server, database, site) as acknowledged:
        until(lambda: len(acknowledged) > 3, "the worker writes")
        done = lastgood("rollback", "--yes", "--json")
        written = list(acknowledged)
    assert done.status == 0, done.err
    events = [(each["event"], each.get("name")) for each in done.events]
    order = [name for event, name in events if event == "stage_started"]
    assert order.index("stop") < order.index("fence") < order.index("swap") < order.index("reopen")
    assert order.index("reopen") < order.index("start")
    # Every acknowledged write is in the live or in the kept database.
    found: set[int] = set()
    for name in (database, done.document["kept"]):
        if name != database:
            with server.target("postgres").connect() as connection:
                connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
        with server.target(name).connect() as connection:
            found |= {row[0] for row in connection.execute("SELECT id FROM public.contacts")}
    assert set(written) <= found


def test_hooks_know_the_run_and_no_password(
    lastgood: Lastgood, database: str, broken: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "hidden-in-here")
    site.configure()
    done = lastgood("rollback", "--yes", "--json")
    assert done.status == 0, done.err
    document = done.document
    stop = site.calls()[1]
    assert {name: stop[name] for name in sorted(stop) if name not in ("LASTGOOD_STATE", "LASTGOOD_DB")} == {
        "hook": "stop",
        "LASTGOOD_RUN": document["run"],
        "LASTGOOD_LIVE": database,
        "LASTGOOD_KEPT": document["kept"],
        "LASTGOOD_SHADOW": document["shadow"],
        "LASTGOOD_POINT": document["point"]["path"],
        "LASTGOOD_STAGE": "before the switch",
    }
    assert "hidden-in-here" not in json.dumps(stop)


def test_with_a_fence_at_the_swap_it_is_stopped_as_late_as_can_be(
    lastgood: Lastgood, database: str, broken: str, site: Site
) -> None:
    site.configure()
    plan = lastgood("rollback", "--dry-run", "--fence", "at-swap")
    steps = [line.strip() for line in plan.out.splitlines() if re.match(r"  +\d+  ", line)]
    assert [step.partition("  ")[2] for step in steps] == [
        "Let writers continue until the switch: rows written until then are in the kept database",
        "Back up the live database as it is now: in parallel with the next step",
        "Build the restored database next to the live one: users do not notice",
        "Carry over owners, grants and settings: users do not notice",
        "Verify the restored database against the restore point: a difference ends the run",
        "Stop the application: as late as possible: outage begins",
        "Switch the names: all sessions are terminated once; clients reconnect",
        "Verify a login under the live name: undo stays possible",
        "Start the application: outage ends",
    ]
    done = lastgood("rollback", "--yes", "--json", "--fence", "at-swap")
    assert done.status == 0, done.err
    order = [each["name"] for each in done.events if each["event"] == "stage_started"]
    assert order.index("prove") < order.index("stop") < order.index("swap")


def broken_stop(site: Site, program: str, *lines: str) -> None:
    """A configuration whose hook ``stop`` is this Python program."""
    site.configure()
    (site.folder / "stop.py").write_text(program)
    text = (site.folder / "lastgood.toml").read_text()
    (site.folder / "lastgood.toml").write_text("\n".join([text.rstrip(), *lines]) + "\n")


def contacts(server: EmbeddedServer, database: str) -> object:
    with server.target(database).connect() as connection:
        row = connection.execute("SELECT count(*) FROM public.contacts").fetchone()
        connection.execute("UPDATE public.contacts SET name = name")  # an open database takes writes
    assert row is not None
    return row[0]


def test_a_hook_that_fails_stops_the_run_and_the_application_runs_again(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str, site: Site
) -> None:
    broken_stop(site, "import sys; sys.exit('permission denied: workers')")
    failed = lastgood("rollback", "--yes", "--json")
    assert failed.status == 5
    assert failed.document["error"] == {
        "code": "failed",
        "message": 'cannot stop the application: hook "stop" exited with status 1: permission denied: workers',
        "hint": "Fix the hook in lastgood.toml, or remove it to continue with the database's own fence alone.",
        "state": f'"{database}" was not touched and is open. The application was started again.',
        "exit_status": 5,
    }
    assert site.called() == ["maintenance_on", "start", "maintenance_off"]
    assert contacts(server, database) == 1
    assert lastgood("status").status == 0


def test_a_hook_that_hangs_is_ended_with_all_that_it_started(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str, site: Site
) -> None:
    child = "import time; time.sleep(600)"
    broken_stop(
        site,
        f"import subprocess, sys\np = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "open('pid', 'w').write(str(p.pid))\nprint('waiting for the workers', flush=True)\np.wait()\n",
        'time_limit = "1s"',
    )
    failed = lastgood("rollback", "--yes", "--json")
    assert failed.status == 5
    assert failed.document["error"]["message"] == (
        'cannot stop the application: hook "stop" exceeded its time limit of 1 s and was terminated with all its '
        "child processes: waiting for the workers"
    )
    pid = int(Path("pid").read_text())
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "the hook's child is gone")
    assert contacts(server, database) == 1


def test_a_hook_that_leaves_a_service_behind_is_not_waited_for(
    lastgood: Lastgood, database: str, broken: str, site: Site
) -> None:
    site.configure()
    service = "import time; time.sleep(60)"
    (site.folder / "start.py").write_text(
        f"import subprocess, sys\np = subprocess.Popen([sys.executable, '-c', {service!r}])\n"
        "open('pid', 'w').write(str(p.pid))\n"
    )
    assert lastgood("rollback", "--yes").status == 0
    running = psutil.Process(int(Path("pid").read_text()))
    assert running.status() != "zombie"
    running.kill()


def test_what_a_hook_prints_is_kept_without_passwords(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "correct-horse")
    broken_stop(
        site,
        "import os\nprint('connecting with', os.environ['PGPASSWORD'])\n"
        "print('or as postgresql://app:battery@db/crm with password=staple')\n"
        "print('x' * 100_000)\nprint('done')\n",
    )
    done = lastgood("rollback", "--yes", "--json")
    assert done.status == 0, done.err
    output = done.document["application"]["hooks"][1]["output"]
    assert output.endswith("x\ndone") and len(output) <= 2000
    broken_stop(
        site,
        "import os, sys\nprint('or as postgresql://app:battery@db/crm with password=staple')\n"
        "sys.exit('no connection with ' + os.environ['PGPASSWORD'])\n",
    )
    failed = lastgood("rollback", broken, "--yes")
    assert failed.status == 5
    assert 'hook "stop" exited with status 1: no connection with ***\n' in failed.err
    written = "".join(path.read_text() for path in Path("state").rglob("*.jsonl"))
    assert "or as postgresql://app:***@db/crm with password=***" in written
    for secret in ("correct-horse", "battery", "staple"):
        assert secret not in done.out + done.err + failed.out + failed.err + written


def test_a_hook_that_is_not_there_is_seen_in_the_plan(lastgood: Lastgood, database: str, broken: str) -> None:
    Path("lastgood.toml").write_text('[hooks]\nstop = ["./bin/stop-workers", "--all"]\n')
    refused = lastgood("rollback", "--yes")
    assert refused.status == 3
    assert refused.err.endswith(
        f'error: cannot roll back "{database}": cannot run hook "stop": program "./bin/stop-workers" is not on '
        "this machine\n"
        f'state: "{database}" was not touched and is open.\n'
        "next:  Correct [hooks] in lastgood.toml, or run this command where the program is installed.\n"
    )
    assert 'hook "stop" has no counterpart "start": an operator must do that by hand' in refused.out


def test_an_application_that_does_not_restart_is_reported(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str, site: Site
) -> None:
    broken_stop(site, "raise SystemExit('no')")
    (site.folder / "start.py").write_text("raise SystemExit('out of memory')")
    failed = lastgood("rollback", "--yes")
    assert failed.status == 7
    assert failed.err.endswith(
        'error: cannot start the application again: hook "start" exited with status 1: out of memory; the run had '
        'failed: cannot stop the application: hook "stop" exited with status 1: no\n'
        f'state: "{database}" was not touched and is open. The application is stopped.\n'
        "next:  Start it by hand, or fix the hook and run: lastgood maintenance off\n"
    )
    assert contacts(server, database) == 1
    assert "The application is stopped: " in lastgood("status").out
    (site.folder / "start.py").write_text("")
    assert lastgood("maintenance", "off").status == 0
    assert "The application is stopped: " not in lastgood("status").out


def test_maintenance_by_itself(lastgood: Lastgood, server: EmbeddedServer, database: str, site: Site) -> None:
    site.configure()
    with server.target(database).connect(application_name="a worker") as worker:
        turned_on = lastgood("maintenance", "on")
        assert turned_on.status == 0, turned_on.err
        assert site.is_stopped() and site.called() == ["maintenance_on", "stop"]
        assert re.fullmatch(
            rf'The application of "{database}" is stopped\.\n'
            r"  By lastgood maintenance, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(.*\), \S+ on \S+\n"
            r'  Hook "maintenance_on": ok, [\d.]+ m?s\n'
            r'  Hook "stop": ok, [\d.]+ m?s\n'
            r"  0 rows were written within [\d.]+ s, by the server's counters\.\n\n"
            r"Connected: 1 session\n"
            r" +process +role +application +state\n"
            rf"  +{worker.info.backend_pid} +postgres +a worker +idle\n\n"
            r"To start it again: lastgood maintenance off\n",
            turned_on.out,
        ), turned_on.out
    status = lastgood("maintenance", "--json").document
    assert (status["application"]["by"], status["application"]["state"]) == ("lastgood maintenance", "stopped")
    assert (status["fence"], status["sessions"], status["written"]) == (None, [], 0)
    assert lastgood("maintenance", "off").status == 0
    assert not site.is_stopped()
    assert lastgood("maintenance", "status").out.startswith(
        f'Maintenance is off for "{database}" according to the records of this machine.\n'
    )


def test_maintenance_names_the_sessions_that_still_write(
    lastgood: Lastgood, server: EmbeddedServer, database: str, site: Site
) -> None:
    site.configure()
    with server.target(database).connect(autocommit=False, application_name="forgotten job") as job:
        job.execute("INSERT INTO public.contacts VALUES (77, 'late', now())")
        turned_on = lastgood("maintenance", "on")
        job.rollback()
    assert turned_on.status == 0
    assert "1 session in a transaction that has written; lastgood maintenance on --fence blocks them" in turned_on.err
    assert re.search(r"forgotten job +writes\n", turned_on.out)


@pytest.mark.parametrize("ended_by", ["Ctrl+C", "maintenance off", "kill -9"])
def test_a_fence_by_itself_ends_with_the_tool(
    lastgood: Lastgood,
    server: EmbeddedServer,
    database: str,
    site: Site,
    child_environment: dict[str, str],
    ended_by: str,
) -> None:
    site.configure()
    process = forked_cli.Process("maintenance", "on", "--fence", environment=child_environment)

    def fenced() -> bool:
        return lastgood("status", "--json").document["fence"] is not None

    def may_write() -> bool:
        with server.target(database).connect() as connection:
            connection.execute("SET lock_timeout = '100ms'")
            try:
                connection.execute("INSERT INTO public.contacts (name) SELECT 'x' WHERE false")
                return True
            except psycopg.errors.LockNotAvailable:
                return False

    try:
        until(fenced, "the fence stands")
        assert not may_write()
        with server.target(database).connect() as reader:
            assert reader.execute("SELECT count(*) FROM public.contacts").fetchone() == (3,)
        shown = lastgood("maintenance", "status", "--json").document
        assert (shown["fence"]["application"], shown["fence"]["tables"]) == ("lastgood fence maintenance", 3)
        if ended_by == "maintenance off":
            assert lastgood("maintenance", "off").status == 0
            assert not site.is_stopped()
        else:
            process.send_signal(signal.SIGKILL if ended_by == "kill -9" else signal.SIGINT)
        _, printed = process.communicate(timeout=PATIENCE)
        assert process.returncode == (-9 if ended_by == "kill -9" else 0), printed
        until(may_write, "writers continue")
        if ended_by != "maintenance off":
            assert site.is_stopped()  # the hooks are for `maintenance off` to take back
    finally:
        process.kill()
        process.wait()


def test_maintenance_needs_something_to_do(lastgood: Lastgood, database: str) -> None:
    refused = lastgood("maintenance", "on")
    assert refused.status == 2
    assert refused.err == (
        'error: cannot turn maintenance on: lastgood.toml has no hook "maintenance_on" or "stop"\n'
        "state: Nothing was changed.\n"
        "next:  Add one of them to [hooks], or only block writes: lastgood maintenance on --fence\n"
    )


def test_an_application_that_was_stopped_by_hand_is_not_stopped_again(
    lastgood: Lastgood, database: str, broken: str, site: Site
) -> None:
    site.configure()
    assert lastgood("maintenance", "on").status == 0
    done = lastgood("rollback", "--yes")
    assert done.status == 0
    assert "note    the application was already stopped by lastgood maintenance\n" in done.err
    assert site.called() == ["maintenance_on", "stop", "start", "maintenance_off"]


def test_where_the_hooks_run_and_how_they_are_written(lastgood: Lastgood, database: str, broken: str) -> None:
    """A program may be named relative to lastgood.toml, wherever lastgood is called."""
    bin = Path("ops")
    bin.mkdir()
    hook = bin / "stop"
    hook.write_text(f"#!{sys.executable}\nimport os\nprint(os.getcwd(), os.environ['LASTGOOD_LIVE'])\n")
    hook.chmod(0o755)
    folder = Path.cwd()
    Path("lastgood.toml").write_text('[hooks]\nstop = ["./ops/stop"]\nstart = ["true"]\n')
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")
    done = lastgood("rollback", str(folder / "backups" / broken), "--yes", "--json")
    assert done.status == 0, done.err
    assert done.document["application"]["hooks"][0]["output"] == f"{folder} {database}"


def test_maintenance_works_while_the_server_does_not(
    lastgood: Lastgood, database: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.configure()
    monkeypatch.setenv("LASTGOOD_DB", "postgresql:///crm?host=/nowhere&connect_timeout=2")
    turned_on = lastgood("maintenance", "on")
    assert (turned_on.status, site.is_stopped()) == (0, True)
    assert "  Cannot reach the server: cannot reach the server of " in turned_on.out
    turned_off = lastgood("maintenance", "off", "--json")
    assert (turned_off.status, site.is_stopped()) == (0, False)
    assert turned_off.document["application"] is None and turned_off.document["sessions"] == []


@pytest.mark.parametrize("what", ["on", "off"])
def test_maintenance_leaves_a_run_alone(
    lastgood: Lastgood, server: EmbeddedServer, database: str, site: Site, what: str
) -> None:
    site.configure()
    with server.target("postgres").connect(application_name="lastgood rollback 1") as connection:
        lock_live(connection, database, read_nothing)
        refused = lastgood("maintenance", what)
    assert refused.status == 3
    assert re.fullmatch(
        rf'error: cannot turn maintenance {what}: a run is in progress \("lastgood rollback 1", as "postgres", '
        r"through a local socket, since .* UTC, server process \d+\)\n"
        r"state: Nothing was changed\.\n"
        r"next:  Wait for the run, which stops and starts the application itself; lastgood status shows it\.\n",
        refused.err,
    ), refused.err
    assert site.called() == []


def test_maintenance_that_cannot_be_turned_on_is_taken_back(lastgood: Lastgood, database: str, site: Site) -> None:
    broken_stop(site, "raise SystemExit('no')")
    failed = lastgood("maintenance", "on")
    assert failed.status == 5
    assert failed.err.endswith(
        'error: cannot stop the application: hook "stop" exited with status 1: no\n'
        "state: What had been done was reversed.\n"
        "next:  Fix the hook in lastgood.toml, then run: lastgood maintenance on\n"
    )
    assert site.called() == ["maintenance_on", "start", "maintenance_off"]
    assert not list(Path("state/application").glob("*.json"))
