"""Row 18: "Checklist after; incident log": an incident record written as it happens, and a post-mortem draft with a due
date."""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from lastgood.journal import Journal, caller
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.cli.conftest import child_environment as child_environment
from tests.support import forked_cli

HOSTILE = "<script>alert(1)</script>|`x`\n# y"
SECRET = "battery-staple"


@pytest.fixture(autouse=True)
def at_a_keyboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a keyboard, wherever the tests run."""
    github = ("GITHUB_ACTOR", "GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    for name in ("SSH_CONNECTION", "SSH_CLIENT", "SUDO_USER", "GITLAB_USER_LOGIN", "CI_JOB_URL", *github):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def rollback_at_night(
    lastgood: Lastgood, server: EmbeddedServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A bad deployment, and its rollback by an operator connected by SSH; the name of the run."""
    monkeypatch.setenv("LASTGOOD_DB", f"{server.url(database)}&password={SECRET}")
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.7 51234 10.0.0.5 22")
    script = f"import os; print('stopped with {SECRET}')"
    Path("lastgood.toml").write_text(
        f"[hooks]\nstop = ['{sys.executable}', '-c', '''{script}''']\nstart = ['{sys.executable}', '-c', '0']\n"
        '[record]\nchecklist = ["customer support is informed"]\n'
    )
    assert lastgood("backup").status == 0
    with server.target(database).connect() as connection:
        connection.execute("DELETE FROM public.deals")
        connection.execute("INSERT INTO public.contacts VALUES (4, 'Di', '2026-11-20')")
        connection.execute(sql.SQL("CREATE TABLE public.{} (id int)").format(sql.Identifier(HOSTILE)))
    done = lastgood("rollback", "--yes", "--json", "--attest", "the team is informed=Ann")
    assert done.status == 0, done.out
    return str(done.document["run"])


def assert_in_order(text: str, *parts: str) -> None:
    """Assert that the text contains the parts in this order."""
    place = 0
    for part in parts:
        found = text.find(part, place)
        assert found >= 0, f"{part!r} is missing after {text[max(0, place - 200) : place]!r} in:\n{text}"
        place = found + len(part)


def test_the_day_after(
    lastgood: Lastgood, server: EmbeddedServer, database: str, rollback_at_night: str, tmp_path: Path
) -> None:
    me, host = caller.user(), caller.host()

    # The list: who did what, and how it ended.
    listed = lastgood("runs", "--json").document
    (line,) = listed["runs"]
    assert (line["run"], line["kind"], line["live"], line["outcome"]) == (
        rollback_at_night,
        "rollback",
        database,
        "done",
    )
    assert (line["by"], line["host"]) == (me, host)
    assert lastgood("runs", "--kind", "undo").out == f'No runs in "{tmp_path}/state/runs".\n'

    # The report, for people.
    report = lastgood("report")
    assert (report.status, report.err) == (0, "")
    assert_in_order(
        report.out,
        f"Rollback {rollback_at_night}: done\n",
        f'The rollback is done: "{database}" is the restored database',
        f"Operator       {me} on {host} from 203.0.113.7\n",
        "Command        lastgood rollback --yes --json --attest 'the team is informed=Ann'\n",
        "Clock          the server's",
        "\nPlan\n",
        f"Kept as         {database}_old_",
        "Checklist       GO WITH WARNINGS",
        "WARN Rehearsal and duration: ",
        "\nTimeline\n",
        "begin stop the application",
        'hook "stop" before the switch',
        "done prove that it equals the restore point",
        "done switch the names (readers reconnect)",
        "END done",
        "Difference between the live database and the restore point",
        "public.<script>alert(1)</script>|`x`\\n# y ",
        "missing",
        "public.contacts ",
        "  4         3     1         0        0\n",
        "  0         2     0         2        0\n",
        "\nProof\n",
        "3 of 3 tables with 7 rows were equal to the restore point in every row before the switch.",
        "\nFigures\n",
        "Write outage",
        "Ann attested the team is informed",
        "stopped with ***",
        "previous database",
        "emergency backup",
        "Checklist after",
        "The post-mortem is due: ",
        "[x] Writers can write",
        "[ ] The data was validated after the run [validation]: no validation after the run (measured); "
        "run: lastgood validate --full",
        "[x] The emergency backup exists",
        "[ ] A backup was made after the run",
        "[ ] Users were informed [users]: not attested yet",
        "[ ] customer support is informed: not attested yet",
        f"lastgood undo {rollback_at_night}",
    )

    # For programs.
    document = lastgood("report", rollback_at_night, "--json").document
    assert document["format"] == 1
    assert document["people"][0]["ssh"] == "203.0.113.7"
    assert [f"{each['schema']}.{each['name']}" for each in document["proofs"]] == [
        "public.contacts",
        "public.deals",
        "supabase_migrations.schema_migrations",
    ]
    assert {each["what"]: each["now"] for each in document["holdings"]} == dict.fromkeys(
        ("previous database", "restored database", "restore point", "emergency backup", "journal"), "present"
    )
    assert document["plan"]["run"] == document["report"]["run"] == rollback_at_night
    assert document["clock"] == "server" and abs(document["skew"]) < 5
    due = datetime.fromisoformat(document["after"]["due"])
    assert abs(due - datetime.fromisoformat(document["ended"]) - timedelta(hours=48)) < timedelta(seconds=5)

    # As a page and as Markdown: what a table is called is a name there, and no command.
    page, text = tmp_path / "report.html", tmp_path / "report.md"
    assert lastgood("report", rollback_at_night, "--output", str(page)).out == f'Written: "{page}"\n'
    assert lastgood("report", rollback_at_night, "-o", str(text)).status == 0
    html = page.read_text()
    assert "<script" not in html and "http" not in html.replace("http://www.w3.org/2000/svg", "").replace(
        "http-equiv", ""
    )
    assert "&lt;script&gt;alert(1)&lt;/script&gt;|`x`\\n# y" in html and html.count("<svg") == 1
    assert "public.\\<script\\>alert(1)\\</script\\>\\\\|\\`x\\`\\\\n\\# y" in text.read_text()

    # The checklist after: what is done is seen, what only people know they say.
    assert lastgood("backup").status == 0
    assert lastgood("validate").status == 0
    answered = lastgood(
        "report", "--done", "users", "--done", "customer support is informed", "--by", "Ann", "--note", "mail"
    )
    assert answered.status == 0, answered.err
    assert_in_order(
        answered.out,
        f"Rollback {rollback_at_night}: done\n",
        "[x] The data was validated after the run [validation]: GO (quick)",
        "[x] A backup was made after the run",
        "[x] Users were informed [users]: mail (attested by Ann, ",
        "[x] customer support is informed",
        "[ ] The post-mortem was written",
    )
    status = lastgood("status")
    assert re.search(
        rf"^Post-mortem due \d{{4}}-\d\d-\d\d: lastgood report {rollback_at_night}$", status.out, re.MULTILINE
    )

    # The draft, and the day after the day after.
    drafted = lastgood("report", "--post-mortem")
    draft = tmp_path / f"post-mortem-{rollback_at_night}.md"
    assert drafted.out == f'Written: "{draft.name}"\n'
    assert_in_order(
        draft.read_text(),
        "# Post-mortem: rollback of ",
        "| Due | ",
        "## Summary",
        f"{me} on {host} from 203.0.113.7 began the rollback of the database",
        "TO BE FILLED",
        "## Impact",
        "| Write outage | ",
        "| Rolled back by | ",
        "| Rows lost | 1 |",
        "## Timeline",
        "## What happened",
        "## Root cause",
        "## What went well",
        "- 3 tables were compared before the switch.",
        "## Actions",
        "## Checklist after",
        "- [x] Users were informed",
        "- [ ] The post-mortem was written",
    )
    draft.write_text("edited by hand\n")
    again = lastgood("report", "--post-mortem")
    assert again.status == 3
    assert again.err == (
        f'error: cannot write the draft "{draft.name}": the file exists and may have been edited\n'
        "state: Nothing was changed.\nnext:  Name another file with --output FILE, or print the draft with --output "
        "-.\n"
    )
    assert draft.read_text() == "edited by hand\n"
    Path("lastgood.toml").write_text('[record]\npost_mortem_within = "1ms"\n')
    assert_in_order(lastgood("status").out, "Post-mortem OVERDUE since ", f": lastgood report {rollback_at_night}\n")
    assert lastgood("status", "--json").document["post_mortems"][0]["overdue"] is True
    assert lastgood("report", "--done", "post_mortem", "--by", "Ann").status == 0
    assert "Post-mortem" not in lastgood("status").out
    assert lastgood("status", "--json").document["post_mortems"] == []

    # The rollback is undone: the record states that, and where everything is now.
    undo = lastgood("undo", "--yes", "--json").document
    report = lastgood("report", rollback_at_night)
    assert_in_order(
        report.out,
        f"Rollback {rollback_at_night}: done, later undone\n",
        f'The rollback was completed and later undone: "{database}" is again the database from before.\n',
        f"It was undone by {me} on {host}, ",
        f"by run {undo['run']}.",
    )
    assert [each["run"] for each in lastgood("runs", "--json").document["runs"] if each["kind"] != "validate"] == [
        undo["run"],
        rollback_at_night,
    ]
    assert_in_order(lastgood("report").out, f"Undo {undo['run']}: done\n", f"Undoes    {rollback_at_night}\n")

    # Another machine has no journal; the report is made from the server's marks, and lists what is unknown.
    elsewhere = lastgood("report", undo["run"], "--state", str(tmp_path / "elsewhere"))
    assert elsewhere.status == 0
    assert_in_order(
        elsewhere.out,
        f"Undo {undo['run']}: switched, according to the server\n",
        f"Undoes    {rollback_at_night}\n",
        f"Operator  {me} on {host}\n",
        "Unknown",
        f'no journal on this machine: timeline, loss, proof and messages are in the journal on "{host}"',
    )
    unknown = lastgood("report", "20200101-000000-00000000")
    assert (unknown.status, unknown.out) == (3, "")
    assert unknown.err.startswith(
        'error: cannot report on run "20200101-000000-00000000": this machine has no journal of it, and no '
        "database or schema of this run exists on the server\n"
    )

    # Nowhere in all that was written is the password.
    for file in (*(tmp_path / "state").rglob("*"), page, text, draft):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file


def test_a_failed_run_is_recorded_with_its_cause_and_its_reversal(
    lastgood: Lastgood, server: EmbeddedServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASTGOOD_DB", f"{server.url(database)}&password={SECRET}")
    assert lastgood("backup").status == 0
    Path("lastgood.toml").write_text(
        f"[hooks]\nstop = ['{sys.executable}', '-c', 'import sys; sys.exit(\"no such service; token {SECRET}\")']\n"
    )
    failed = lastgood("rollback", "--yes")
    assert failed.status == 5
    (journal,) = Journal.all(tmp_path / "state")
    last: dict[str, Any] = dict(list(journal.replay())[-1])
    assert (last["event"], last["status"], last["error"]["exit_status"]) == ("ended", "failed", 5)
    assert json.dumps(last) == json.dumps(last).replace(SECRET, "***")
    report = lastgood("report")
    assert_in_order(
        report.out,
        f"Rollback {journal.run}: failed, the database is as it was\n",
        "Cause\n",
        'cannot stop the application: hook "stop" exited with status 1: no such service; token ***',
        "State at that time",
        "Exit status",
        "FAILED stop the application: ",
        "UNDONE stop the application",
        "END failed: cannot stop the application",
    )
    assert "Checklist after" not in report.out
    refused = lastgood("report", journal.run, "--done", "users", "--by", "Ann")
    assert (refused.status, refused.err.partition("\n")[0]) == (
        3,
        f'error: cannot write into the record of run "{journal.run}": the run has no checklist',
    )
    explained = lastgood("explain", journal.run)
    assert "The rollback failed, and its changes were reverted" in explained.out
    assert re.search(SECRET, report.out + explained.out + journal.path.read_text()) is None


def test_what_two_machines_did(
    lastgood: Lastgood,
    server: EmbeddedServer,
    database: str,
    tmp_path: Path,
    child_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert lastgood("backup", "--quiet").status == 0
    fault = {"LASTGOOD_FAULT": "build.after_load:kill"}
    with forked_cli.Process("rollback", "--yes", environment={**child_environment, **fault}) as killed:
        killed.communicate(60)
    (journal,) = Journal.all(tmp_path / "state")
    there = ("--state", str(tmp_path / "elsewhere"))
    assert_in_order(
        lastgood("report").out,
        f"Rollback {journal.run}: stopped before the switch, or still active\n",
        f'"{database}" was not touched. The run is still active, or was stopped.',
        f"lastgood resume {journal.run}",
    )
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.8 51234 10.0.0.6 22")
    assert lastgood("resume", "--yes", *there).status == 0
    # Each of the two knows its part, and that there is another one.
    begun = lastgood("report").out
    assert_in_order(
        begun,
        f"Rollback {journal.run}: switched, not finished\n",
        "The journal ends before the switch, but the server shows that it took place: "
        f'"{database}" is the restored database, and the previous one is kept as "{database}_old_',
        f"{caller.user()} on {caller.host()} continued it.\n",
        f"lastgood undo {journal.run}",
    )
    assert_in_order(
        lastgood("report", *there).out,
        f"Rollback {journal.run}: done\n",
        f"{caller.user()} on {caller.host()} from 203.0.113.8 resumed: lastgood resume --yes --state ",
        "Checklist after",
    )
