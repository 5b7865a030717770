"""Row 20. The guide itself, in the README's operations section.

lastgood: `lastgood guide` writes it for this very database, names and tables filled in. Here an operator with only
psql, pg_dump, pg_restore and coreutils runs every command of it, from its text, from start to end.
"""

from __future__ import annotations

import gzip
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE

import psycopg
import pytest

from demo import crm, evidence, naive
from demo.evidence import Evidence
from lastgood.command.guide.guide import ROLLBACK
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.command.guide.by_hand import ByHand
from tests.support.commands import wrong

SCALE = 0.02
GUIDE = Path("manual-rollback-procedure.md")
PASSWORD = "s3cret/9f"
NewDatabase = Callable[..., str]


class Site:
    """The CRM, a good state of it, and a migration that broke it half-way."""

    def __init__(self, server: EmbeddedServer, database: str, folder: Path, environment: pytest.MonkeyPatch) -> None:
        self.server, self.database, self.folder = server, database, folder
        self.store = folder / "back ups"
        self.store.mkdir()
        with server.target(database).connect() as connection:
            crm.create(connection, SCALE)
        self.good = self.now()
        environment.setenv("LASTGOOD_DB", str(server.target(database)) + f" password={PASSWORD}")
        environment.setenv("LASTGOOD_STORE", str(self.store))
        (folder / "lastgood.toml").write_text(
            '[hooks]\nstop = ["/bin/sh", "-c", "echo stop $LASTGOOD_LIVE >> hooks.log"]\n'
            'start = ["/bin/sh", "-c", "echo start $LASTGOOD_STAGE >> hooks.log"]\n'
            '[guide]\nowner = "the platform team"\nreview_every = "30d"\n'
            'related = ["Incidents: https://wiki.example.org/incidents_*"]\n'
        )

    def now(self) -> Evidence:
        with self.server.target(self.database).connect() as connection:
            return evidence.take(connection)

    def execute(self, statement: str) -> None:
        with self.server.target("postgres" if "DATABASE" in statement else self.database).connect() as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(statement.encode())

    def databases(self) -> set[str]:
        with self.server.target("postgres").connect() as connection:
            query = "SELECT datname FROM pg_database WHERE datname LIKE %s"
            return {row[0] for row in connection.execute(query, [self.database + "%"])}

    def pg_dump(self, *options: str) -> bytes:
        program = self.server.bin / "pg_dump"
        return subprocess.run([program, *options, self.server.url(self.database)], stdout=PIPE, check=True).stdout

    def breaks(self) -> Evidence:
        """A migration that failed half-way, without a transaction; what is there then."""
        with self.server.target(self.database).connect() as connection:
            for statement in (
                "ALTER TABLE public.contacts ADD COLUMN segment text",
                "UPDATE public.contacts SET first_name = 'x' WHERE id <= 50",
                "CREATE TABLE public.segments (id int PRIMARY KEY)",
                "DELETE FROM public.contact_tags",
                "INSERT INTO supabase_migrations.schema_migrations (version) VALUES ('20251204090000')",
            ):
                connection.execute(statement.encode())
        return self.now()


@pytest.fixture
def site(server: EmbeddedServer, new_database: NewDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(server, new_database("crm"), tmp_path, monkeypatch)


def old_dump(site: Site, *, packed: bool) -> Path:
    """As the old script makes it: --no-owner --no-acl --clean --if-exists; ``packed`` by gzip."""
    dump = site.store / "cloud_backup_20260112_093000.sql"
    naive.backup(site.server.bin, site.server.url(site.database), dump)
    if not packed:
        return dump
    small = dump.with_name(dump.name + ".gz")
    small.write_bytes(gzip.compress(dump.read_bytes()))
    dump.unlink()
    return small


@pytest.mark.postgres(18, also=(15,))
def test_every_command_of_it_from_start_to_end(site: Site, lastgood: Lastgood) -> None:
    packed = site.server.major == 15
    point = old_dump(site, packed=packed)
    site.breaks()
    # An operator followed another guide and set the database read-only: it stops no writer, and must not stop us.
    site.execute(f"ALTER DATABASE {site.database} SET default_transaction_read_only = on")
    written = lastgood("guide", "--json")
    assert written.status == 0, written.out
    assert written.document["point"] == str(point)
    text = GUIDE.read_text(encoding="utf-8")
    assert PASSWORD not in text
    hand = ByHand(GUIDE, site.server, site.folder, more=["gzip"] if packed else [])

    # The procedure, with a writer that does not go away by itself.
    until_compare = ROLLBACK.index("compare")
    with site.server.target(site.database).connect(application_name="worker") as writer:
        hand.does(*ROLLBACK[:until_compare])
        writer.execute("INSERT INTO public.segments VALUES (1)")
        broken = site.now()
        output = hand.does(*ROLLBACK[until_compare:])
        with pytest.raises(psycopg.OperationalError):
            writer.execute("INSERT INTO public.segments VALUES (2)")
    assert "public.contact_tags" in output, "the loss was not shown"
    # Rows, definitions, owners, grants: those of the good state. The database's own settings: those of today.
    assert site.now().differences(Evidence(site.good.content, site.good.structure, broken.settings)) == []
    assert (site.folder / "hooks.log").read_text() == f"stop {site.database}\nstart after the switch\n"
    # Proved by lastgood: every row of every table is the restore point's.
    proof = lastgood("facts", point.name, "--live", "--json")
    assert proof.document["equal"] is True, proof.out

    # Who does not know any more how far he is may run a block again.
    hand.does("swap", "verify", "kept-open", "kept-close")
    # Back: what was there before, and what the worker wrote.
    hand.does("undo", "undo")
    assert site.now().differences(broken) == []

    # Another attempt, given up before the switch; and the optional and the looking blocks.
    hand.variables["RUN"] = "2"
    hand.does("start", "point", "backup", "backup-test", "create", "restore", "remove")
    cut = site.store / ("cut" + "".join(point.suffixes))
    cut.write_bytes(point.read_bytes()[: point.stat().st_size * 7 // 10])
    looks = [block.id for block in hand.untried if block.id.startswith("scenario-")]
    output = hand.does(*looks)
    assert f"good  {point}" in output
    assert f"bad  {cut}" in output
    assert "default_transaction_read_only" in output
    assert f"{site.database}_undone_1" in output
    assert [block.id for block in hand.untried if not block.id.startswith("quick")] == []
    assert site.databases() == {site.database, f"{site.database}_undone_1"}


def test_an_archive_as_an_owner_who_is_no_superuser(
    site: Site, lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lastgood("backup", "--format", "custom").status == 0
    with site.server.target("postgres").connect() as connection:
        for statement in (
            "GRANT pg_signal_backend TO crm_owner",
            "GRANT SET ON PARAMETER app.tenant TO crm_owner",
            "GRANT crm_app TO crm_owner WITH ADMIN OPTION",
        ):
            connection.execute(statement.encode())
    monkeypatch.setenv("LASTGOOD_DB", site.server.url(site.database, user="crm_owner"))
    try:
        with site.server.target(site.database, user="crm_owner").connect() as owner:
            owner.execute("DELETE FROM public.contact_tags")
        broken = site.now()
        assert lastgood("guide").status == 0
        hand = ByHand(GUIDE, site.server, site.folder)
        hand.does(*ROLLBACK[: ROLLBACK.index("create")])
        # A setting that only a superuser may make: reported before anything is restored.
        hand.does("create")
        assert "permission denied" in hand.fails("state")
        site.execute("ALTER ROLE crm_owner CREATEROLE")
        hand.does(*ROLLBACK[ROLLBACK.index("state") :])
        assert site.now().differences(site.good) == []
        hand.does("undo")
        assert site.now().differences(broken) == []
    finally:
        for statement in (
            "ALTER ROLE crm_owner NOCREATEROLE",
            "REVOKE pg_signal_backend, crm_app FROM crm_owner",
            "REVOKE SET ON PARAMETER app.tenant FROM crm_owner",
        ):
            site.execute(statement)


def test_the_traps_of_the_old_guide(site: Site, lastgood: Lastgood) -> None:
    """A cut dump, one whose bytes were changed, names that do not exist, and a stop before anything is touched."""
    point = Path(lastgood("backup", "--json").document["point"]["path"])
    broken = site.breaks()
    assert lastgood("guide").status == 0
    text = GUIDE.read_text(encoding="utf-8")
    whole = point.read_bytes()
    hand = ByHand(GUIDE, site.server, site.folder)
    hand.does("start")
    point.write_bytes(whole.replace(b"acme", b"ACME", 1))
    assert f"cannot use {point}: its SHA-256 differs from the recorded one\n" in hand.fails("point")
    other = site.store / "cut.sql"
    other.write_bytes(whole[: len(whole) * 7 // 10])
    hand.variables["OTHER_POINT"] = str(other)
    assert hand.fails("point").endswith(f"cannot use {other}: the file is truncated; see scenario 3\n")
    # Nothing is switched to that was not compared, and nothing is made without an emergency backup.
    assert hand.fails("create") == "cannot continue: there is no emergency backup yet (block backup)\n"
    assert hand.fails("swap") == "cannot switch: there is no emergency backup (block backup)\n"
    hand.does("backup")
    assert hand.fails("swap") == "cannot switch: the restored database was not compared (block compare)\n"
    # Restored nevertheless, as in a hurry: truncated between two rows, psql loads it without an error.
    del hand.variables["OTHER_POINT"]
    point.write_bytes(whole[: whole.rindex(b"\n", 0, len(whole) * 6 // 10) + 1])
    hand.does("create")
    assert hand.fails("restore") == ("cannot restore: the restore point was not checked (block point)\n")
    (site.store / "by-hand-1" / "point.whole").write_text(str(point))
    hand.does("restore", "expected")
    assert "of the figures above differ from those of the restore point" in hand.fails("compare")
    assert "(block compare)" in hand.fails("swap")
    hand.does("remove")
    # A dump that names databases is not run: its \\connect would lead into the live one.
    point.write_bytes(site.pg_dump("--create", "--clean", "--if-exists"))
    hand.does("create")
    assert "this dump cannot be restored by hand" in hand.fails("restore")
    assert site.now().differences(broken) == []
    assert site.databases() == {site.database, f"{site.database}_shadow_1"}
    # The migrations are looked for where they are.
    assert "'supabase_migrations', 'schema_migrations'" in text
    assert "INSERT INTO pg_temp.expected_migration VALUES\n('20251203120000');" in text
    for command in re.findall(r"`(lastgood[^`]*)`|^(lastgood .*)$", text, re.MULTILINE):
        line = "".join(command).split("  #")[0]
        assert line == "lastgood" or wrong(line) == "", line


def test_out_of_date(site: Site, lastgood: Lastgood) -> None:
    assert lastgood("backup").status == 0
    outcome = lastgood("guide", "--check")
    assert (outcome.status, outcome.err.splitlines()[0]) == (
        2,
        f'error: cannot check the guide: cannot read "{GUIDE}": no such file or directory',
    )
    Path("README.md").write_bytes(b"# CRM\r\n")
    for wrong_call in (["--output", "a.html", "--html"], ["--output", "README.md", "--readme", "README.md"]):
        assert lastgood("guide", *wrong_call).err.startswith(
            f'error: cannot write two documents to "{wrong_call[1]}"\n'
        )
    assert lastgood("guide", "--check", "--html").status == 2
    assert lastgood("guide", "--readme", "README.md", "--output", "-").status == 2
    assert lastgood("guide", "--html", "--readme", "README.md").status == 0
    readme = Path("README.md").read_bytes()
    assert readme.startswith(b"# CRM\r\n\r\n<!-- lastgood operations: begin -->\r\n")
    assert b"[the manual rollback procedure](manual-rollback-procedure.md)" in readme
    assert b"\n" not in readme.replace(b"\r\n", b"")
    page = GUIDE.with_suffix(".html").read_text(encoding="utf-8")
    assert "lastgood guide eyJ" not in page, "the line about its sources is not for readers"
    assert PASSWORD not in page + readme.decode()
    current = lastgood("guide", "--check")
    assert (current.status, current.out) == (0, f'"{GUIDE}" is up to date.\n')

    text = GUIDE.read_text(encoding="utf-8")
    GUIDE.write_text(text.replace("--single-transaction", ""), encoding="utf-8")
    site.execute("CREATE TABLE public.segments (id int)")
    site.execute(f"ALTER DATABASE {site.database} SET work_mem = '8MB'")
    assert lastgood("backup", "--label", "newer").status == 0
    stale = lastgood("guide", "--check", "--json")
    assert stale.status == 3
    assert [reason.split(" (")[0] for reason in stale.document["reasons"][1:]] == [
        "the tables of the database changed",
        "owners, grants or their objects changed",
        "owner, grants, connection limit or settings of the database changed",
        "its commands were edited by hand",
    ]
    assert stale.document["reasons"][0].startswith(f'it uses restore point "{site.database}_')
    GUIDE.write_text("# Notes\n", encoding="utf-8")
    assert lastgood("guide", "--check", "--json").document["reasons"] == [
        "it was not written by lastgood, or the line that records its origin is missing"
    ]


def test_another_restore_point_than_the_newest(
    lastgood: Lastgood, server: EmbeddedServer, database: str, tmp_path: Path
) -> None:
    """Scenario 2: its figures are unknown, so a person must confirm them."""
    older = Path(lastgood("backup", "--label", "older", "--json").document["point"]["path"])
    with server.target(database).connect() as connection:
        connection.execute("INSERT INTO public.contacts VALUES (4, 'Di', '2025-11-04')")
    assert lastgood("backup", "--label", "newer").status == 0
    assert lastgood("guide").status == 0
    hand = ByHand(GUIDE, server, tmp_path)
    hand.variables["OTHER_POINT"] = str(older)
    until_compare = ROLLBACK.index("compare")
    hand.does(*(each for each in ROLLBACK[:until_compare] if not each.startswith("hook-")))
    output = hand.fails("compare")
    assert "rows   | public.contacts            | 4" in output
    assert output.endswith('differences above. If they are correct: set COMPARED="$POINT", then run this block again\n')
    assert hand.fails("swap") == "cannot switch: the restored database was not compared (block compare)\n"
    hand.variables["COMPARED"] = str(older)
    hand.does("compare", "files", "swap", "verify", "reads")
    assert lastgood("facts", older.name, "--live", "--json").document["equal"] is True
