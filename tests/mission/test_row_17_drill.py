"""Row 17. The guide: "test locally first, quarterly drills, post-mortem within 48 hours".

``lastgood drill`` rehearses the whole procedure on a scratch server, measures its duration and keeps the evidence;
reminds when one is overdue.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastgood.command.drill import news
from lastgood.command.drill.drill import Sealed
from lastgood.command.drill.evidence import Failure
from lastgood.postgres.embedded import unprivileged
from tests.command.drill.drilled import Drilled, drilled
from tests.conftest import Servers
from tests.docs.page import blocks
from tests.support.commands import wrong

# In the order in which an operator would do it.
PHASES = ["point", "server", "stand_in", "break", "rollback", "validate", "undo", "compare", "guide", "clean"]
PROOFS = ["fence", "emergency_backup", "content", "settings", "validation", "undo", "guide"]
STEPS = ["plan", "fence", "emergency", "build", "carry_over", "prove", "swap", "reopen"]


@pytest.fixture(scope="module")
def stage(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drilled]:
    with drilled(servers.get(17), servers.get(18), tmp_path_factory.mktemp("drilled")) as found:
        yield found


@pytest.mark.parametrize("which", ["first", "second"])
def test_the_whole_procedure_is_rehearsed_on_a_scratch_server(stage: Drilled, which: str) -> None:
    evidence = getattr(stage, which)["evidence"]
    assert evidence["status"] == "passed"
    # The guide's commands run code of the restore point as the superuser of the scratch server.
    left_out = [] if which == "first" and unprivileged() is not None else ["guide"]
    assert [each.partition(":")[0] for each in evidence["left_out"] if "guide" in each] == [
        f"the commands of the {each}" for each in left_out
    ]
    phases = [each for each in PHASES if each not in left_out]
    assert [each["name"] for each in evidence["phases"] if "." not in each["name"]] == phases
    assert {each["name"] for each in evidence["phases"]} >= {f"rollback.{step}" for step in STEPS}
    assert {each["outcome"] for each in evidence["phases"]} == {"done"}
    assert [each["name"] for each in evidence["proofs"]] == [each for each in PROOFS if each not in left_out]
    assert all(each["holds"] for each in evidence["proofs"])
    # What was proved is what the restore point holds, and not what the stand-in had become.
    assert len(evidence["broken"]) == 5
    assert all(table["equal"] for table in evidence["tables"])
    assert sum(table["rows"] for table in evidence["tables"]) == evidence["point"]["rows"] > 1000
    assert (evidence["live"], evidence["live_server"][:2]) == (stage.database, "17")
    assert evidence["outages"]["read"] > 0
    assert evidence["by"]["command"].startswith("lastgood drill ")
    assert evidence["validation"]["verdict"] == "GO"


def test_on_a_server_that_is_made_for_it_or_on_one_that_is_given(stage: Drilled) -> None:
    made, given = (each["evidence"]["server"] for each in (stage.first, stage.second))
    # The version of the live server, where this machine has it; never an older one.
    assert (made["given"], made["version"][:2], made["database"]) == (False, "17", stage.database)
    assert (given["given"], given["version"][:2]) == (True, "18")
    assert given["where"] == f"host={stage.given.folder} port=5432"
    # The roles that the restore point needs come and go with it, and so do its databases.
    assert made["roles_made"] == ["crm_anon", "crm_app", "crm_owner", "crm_readonly"]
    assert stage.after == stage.before
    with stage.live.target("postgres").connect() as connection:
        names = [name for (name,) in connection.execute("SELECT datname FROM pg_database")]
    assert [name for name in names if name.startswith(stage.database)] == [stage.database]


def test_nothing_of_it_stays_but_the_evidence(stage: Drilled) -> None:
    run = stage.first["evidence"]["run"]
    assert not list(Path("/tmp").glob(f"lastgood-drill-{run}"))
    kept = sorted(each.name for each in (stage.state / "drills" / run).iterdir())
    journals = [name for name in kept if name.endswith(".jsonl")]
    assert len(journals) == 2, "those of the rehearsed rollback and of its undo"
    assert [name for name in kept if name not in journals] == [
        "SHA256SUMS",
        "evidence.html",
        "evidence.json",
        "evidence.md",
        "timeline.svg",
    ]
    text = (stage.state / "drills" / run / "evidence.md").read_text(encoding="utf-8")
    assert text.startswith(f"# Drill of {stage.database.replace('_', chr(92) + '_')}, ")
    assert "| The undo restored the previous state | yes |" in text
    assert "- [x] signed off by Ann Lee, " in text
    page = (stage.state / "drills" / run / "evidence.html").read_text(encoding="utf-8")
    assert "<svg " in page and "switch the names" in page


def test_its_duration_is_measured_and_compared(stage: Drilled) -> None:
    first, second = stage.first["evidence"], stage.second["evidence"]
    assert first["compared"] is None
    compared = second["compared"]
    took = {each["name"]: each["seconds"] for each in first["phases"]}
    assert (compared["run"], compared["before"]) == (first["run"], took["rollback"])
    assert compared["ratio"] == pytest.approx(compared["now"] / compared["before"], abs=0.01)
    assert {each["name"] for each in compared["phases"]} >= {"point", "stand_in", "rollback.build", "rollback.swap"}
    built = next(each for each in second["phases"] if each["name"] == "rollback.build")
    assert (built["bytes"], built["rows"]) == (second["point"]["bytes"], second["point"]["rows"])
    assert 0 < second["expected"]["read_outage"] <= second["expected"]["write_outage"] <= second["expected"]["seconds"]
    # The checklist of a real rollback knows it.
    checked = stage.lastgood("check", "--json").document
    (item,) = [each for each in checked["checklist"]["items"] if each["name"] == "rehearsal"]
    assert item["lines"][0]["text"].startswith("last rehearsed in a drill on 20")
    assert item["lines"][0]["text"].endswith(f"(run {second['run']})")
    assert checked["expected_seconds"] == pytest.approx(second["expected"]["seconds"], rel=0.01)


def test_the_evidence_is_signed_off_and_a_change_is_found_out(stage: Drilled, tmp_path: Path) -> None:
    run = stage.second["evidence"]["run"]
    signed = stage.lastgood("drill", "--sign", run, "--by", "Bo Diaz", "--json")
    assert signed.status == 0, signed.err
    assert [each["by"] for each in signed.document["signatures"]] == ["Bo Diaz"]
    copy = tmp_path / "copy"
    shutil.copytree(stage.state, copy)
    folder = copy / "drills" / run
    assert subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=False).returncode == 0
    shown = stage.lastgood("drill", "--show", run, "--state", str(copy))
    assert shown.status == 0
    assert shown.out.endswith("\nThe evidence is unchanged: all digests match.\n")

    for file, old, new, problems in (
        ("evidence.md", "Bo Diaz", "Cy Young", ["evidence.md was changed after it was written"]),
        (
            "evidence.json",
            "Bo Diaz",
            "Cy Young",
            ["the signature of Cy Young does not match the evidence", "evidence.json was changed after it was written"],
        ),
        (
            "evidence.json",
            '"status": "passed"',
            '"status": "failed"',
            [
                "evidence.json does not match its SHA-256",
                "evidence.json was changed after it was written",
            ],
        ),
    ):
        whole = (folder / file).read_text(encoding="utf-8")
        (folder / file).write_text(whole.replace(old, new), encoding="utf-8")
        found = stage.lastgood("drill", "--show", run, "--state", str(copy), "--json")
        assert (found.status, found.document["changed"]) == (3, problems)
        refused = stage.lastgood("drill", "--sign", run, "--by", "Di", "--state", str(copy))
        assert refused.status == 3
        assert refused.err.startswith(f'error: cannot sign drill "{run}": its evidence was changed: {problems[0]}\n')
        (folder / file).write_text(whole, encoding="utf-8")
    # Whoever changes the digests too would have to change the journal of the drill besides.
    (folder / "timeline.svg").unlink()
    (folder / "SHA256SUMS").write_text("", encoding="utf-8")
    changed = ["timeline.svg is missing"]
    assert stage.lastgood("drill", "--show", run, "--state", str(copy), "--json").document["changed"] == changed


def test_the_history(stage: Drilled) -> None:
    found = stage.lastgood("drill", "--list", "--json").document["drills"]
    assert [each["evidence"]["run"] for each in found] == [
        stage.second["evidence"]["run"],
        stage.first["evidence"]["run"],
    ]
    listed = stage.lastgood("drill", "--list").out.splitlines()
    assert listed[0].split() == ["run", "what", "result", "duration", "rollback", "signed", "off", "by"]
    assert "Ann Lee" in listed[2]


def test_it_reminds_when_one_is_overdue(stage: Drilled, tmp_path: Path) -> None:
    due = stage.lastgood("drill", "--due", "--json")
    assert (due.status, due.document["due"]["overdue"]) == (0, False)
    assert due.document["due"]["run"] == stage.second["evidence"]["run"]
    never = stage.lastgood("drill", "--due", "--state", str(tmp_path / "nowhere"))
    assert (never.status, never.out) == (
        3,
        f'"{stage.database}": This machine has no record of a successful drill; one is due every 90 days: '
        "lastgood drill\n",
    )
    settings = stage.folder / "lastgood.toml"
    settings.write_text('[drill]\nevery = "1ms"\n', encoding="utf-8")
    try:
        assert stage.lastgood("drill", "--due").status == 3
        status = stage.lastgood("status", "--json")
        assert status.document["drill"]["overdue"] is True
        assert "; the next has been OVERDUE since 20" in stage.lastgood("status").out
    finally:
        settings.unlink()


def test_notifications_are_sent(stage: Drilled) -> None:
    sealed = Sealed.model_validate(stage.second)
    passed = news.ended(sealed)
    point = Path(stage.second["evidence"]["point"]["path"]).name
    assert (passed.events, passed.title) == (frozenset({"success"}), "drill passed")
    assert passed.event == (
        f'The rollback of "{stage.database}" to {point} was rehearsed in all phases, and every table was verified.'
    )
    assert passed.next == f"Sign off the evidence: lastgood drill --sign {sealed.evidence.run} --by NAME"
    why = Failure(phase="rollback", code="failed", message="cannot continue: it is full", hint="Room.", exit_status=5)
    worse = sealed.evidence.model_copy(update={"status": "failed", "failure": why})
    failed = news.ended(sealed.model_copy(update={"evidence": worse}))
    assert (failed.events, failed.title) == (frozenset({"failure"}), "drill FAILED")
    assert failed.event == (
        f'The rollback of "{stage.database}" to {point} was rehearsed, and failed: cannot continue: it is full.'
    )
    assert failed.state == f'"{stage.database}" was not touched.'


def test_each_command_of_the_page(stage: Drilled) -> None:
    """Those that drill are run by ``drilled`` and by tests of their own; all others here."""
    page = blocks("docs/drills.md")
    run = stage.first["evidence"]["run"]
    ran = []
    for call in page[0].calls():
        assert wrong(shlex.join(["lastgood", *call])) == ""
        words = [run if word == "RUN" else word for word in call]
        if words[1] in ("--list", "--show", "--sign", "--due"):
            answer = stage.lastgood(*words)
            assert answer.status == 0, answer.err
            ran.append(words[1])
    assert ran == ["--list", "--show", "--sign", "--due"]
    (settings,) = (each for each in page if each.language == "toml")
    (stage.folder / "lastgood.toml").write_text(settings.text, encoding="utf-8")
    try:
        assert stage.lastgood("config", "check").status == 0
    finally:
        (stage.folder / "lastgood.toml").unlink()
    scheduled = "".join(each.text for each in page if each.language in ("cron", "ini"))
    for line in re.findall(r"lastgood drill[^|>\n]*", scheduled):
        assert wrong(line) == ""


def test_the_live_server_is_refused(stage: Drilled) -> None:
    before = sorted(each.name for each in (stage.state / "drills").iterdir())
    with stage.live.target("postgres").connect() as connection:
        (system,) = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone() or (0,)
    refused = stage.lastgood("drill", "--quiet", "--server", stage.live.url("postgres"))
    assert refused.status == 3
    assert refused.err.splitlines()[-3:] == [
        "error: cannot drill on that server: it is the live server or a physical copy of it "
        f"(system identifier {system})",
        "state: Nothing was changed.",
        "next:  Give a scratch server with its own initdb, or leave --server out.",
    ]
    assert sorted(each.name for each in (stage.state / "drills").iterdir()) == before
    runs = sorted((stage.state / "runs").iterdir())
    assert json.loads(runs[-1].read_text(encoding="utf-8").splitlines()[-1])["status"] == "failed"
