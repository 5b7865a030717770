"""The story that lastgood was made for, on a stand-in for a hosted project: a deployment fails, its automatic way back
is killed, and an operator on another machine, with only the restore point, is led back in place."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import sql

from tests.support import forked_cli
from tests.support.account import assert_same, differences
from tests.support.hosted import ADMIN, FOLDER, Project, account_of

SIGN_UP = "INSERT INTO auth.users (id, email) VALUES ('00000000-0000-0000-0000-0000000000aa', 'new@example.com')"


@dataclass(frozen=True, slots=True)
class Outcome:
    status: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine with its own restore points and its own journals."""

    project: Project
    database: str
    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "backups"

    def __call__(self, *arguments: str, fault: str = "", seconds: float = 120) -> Outcome:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LASTGOOD_"))}
        environment |= {
            "LASTGOOD_DB": self.project.server.url(self.database),
            "LASTGOOD_STORE": str(self.store),
            "LASTGOOD_STATE": str(self.folder / "state"),
            "LASTGOOD_FAULT": fault,
            "PATH": f"{self.project.server.bin}:{os.environ['PATH']}",
            "COLUMNS": "300",
        }
        self.folder.mkdir(exist_ok=True)
        done = forked_cli.run(*arguments, environment=environment, folder=self.folder, seconds=seconds)
        return Outcome(done.returncode, done.stdout, done.stderr)


def comparable(project: Project, database: str) -> dict[str, object]:
    """The account of the whole database, without the rows of a view that is refreshed after the switch."""
    left = "MATERIALIZED VIEW DATA public totals"
    return {name: each for name, each in account_of(project, database).items() if not name.startswith(left)}


@dataclass(frozen=True, slots=True)
class Story:
    """``before``: the account of the whole database before the deployment."""

    project: Project
    database: str
    before: dict[str, object]
    folder: Path

    def machine(self, name: str) -> Machine:
        return Machine(self.project, self.database, self.folder / name)

    def account(self) -> dict[str, object]:
        return comparable(self.project, self.database)

    def migration(self, text: str) -> tuple[str, ...]:
        """The command of a deployment."""
        path = self.folder / "migration.sql"
        path.write_text(text)
        return ("deploy", "--", "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(path))

    def value(self, query: sql.Composed | sql.SQL) -> object:
        with self.project.connect(self.database, user=ADMIN) as connection:
            return (connection.execute(query).fetchone() or (None,))[0]


HALF_WAY = (FOLDER / "migration.sql").read_text() + "\nSELECT 1 / 0;\n"
# It succeeds, and leaves sales without their users.
WORSE = """
ALTER TABLE public.sales DROP CONSTRAINT sales_user_id_fkey;
UPDATE public.sales SET user_id = gen_random_uuid() WHERE id % 2 = 0;
"""


@pytest.fixture
def story(hosted_project: Project, tmp_path: Path) -> Iterator[Story]:
    project = hosted_project
    database = project.copy()
    # A session of the platform, which the role postgres may not terminate: the database cannot be renamed.
    with project.connect(database, user=ADMIN):
        yield Story(project, database, comparable(project, database), tmp_path)
    project.drop(database)


def killed(story: Story, machine: Machine, fault: str) -> None:
    """A deployment whose migration fails half-way, and whose way back is killed."""
    done = machine(*story.migration(HALF_WAY), fault=f"{fault}:kill")
    assert done.status == -9, done.err
    assert 'migration "psql" exited with status 3' in done.err


def copied(one: Machine, other: Machine) -> Path:
    """Copy the restore point of the deployment, and nothing else, to another machine."""
    (point,) = one.store.glob("*_before_deployment.sql")
    other.store.mkdir(parents=True)
    for each in one.store.glob(f"{point.name}*"):
        shutil.copy(each, other.store)
    one.store.rename(one.folder / "out of reach")
    return other.store / point.name


def run_of(outcome: Outcome) -> str:
    """The run that an undo would revert."""
    (run,) = set(re.findall(r"To undo it: lastgood undo (\S+)", outcome.out))
    return str(run)


def only_users(one: dict[str, object], other: dict[str, object]) -> bool:
    """Whether the accounts differ in the platform's users, and in nothing else."""
    return [each.partition(":")[0] for each in differences(one, other)] == [
        "TABLE DATA auth users of supabase_auth_admin"
    ]


@pytest.mark.postgres(17, also=(15,))
def test_an_operator_elsewhere_goes_back_in_place(story: Story) -> None:
    first, second = story.machine("first"), story.machine("second")
    killed(story, first, "build.after_load")
    point = copied(first, second)
    story.project.psql(story.database, SIGN_UP, user="supabase_auth_admin")
    damaged = story.account()

    # The killed run stands in the way.
    status = second("status")
    assert (status.status, "A deployment was interrupted" in status.out) == (7, True), status
    (stopped,) = set(re.findall(r"lastgood abort (\S+)", status.out))
    refused = second("recover", "--yes")
    assert (refused.status, refused.err.partition("error: ")[2]) == (
        3,
        "cannot continue automatically: abort that run first\n"
        "state: Nothing was changed.\n"
        f"next:  Run: lastgood abort {stopped}\n",
    )
    away = f'the restore point "{first.store / point.name}" is not on this machine'
    assert f"cannot be resumed: {away}" in status.out
    assert f"lastgood resume {stopped}" not in status.out
    assert f"It cannot be resumed: {away}. Abort removes what was built" in refused.out
    resumed = second("resume", stopped, "--yes")
    assert (resumed.status, resumed.err.partition("error: ")[2].partition("\n")[0]) == (
        7,
        f'cannot resume run "{stopped}": the restore point "{first.store / point.name}" is not on this machine',
    )
    aborted = second("abort", stopped, "--yes")
    assert aborted.status == 0, aborted
    assert_same(damaged, story.account())

    # Led to the restore point of the deployment, and shown the loss.
    seen = second("recover", "--dry-run")
    assert f"First: roll back to {point.name}" in seen.out, seen
    back = second("recover", "--yes")
    assert back.status == 0, back
    assert "in place, the objects of app_private, crm, private, public, supabase_migrations" in back.out
    assert re.search(r"public\.sales +21 +20 +1 +0 +0", back.out), back.out
    assert (
        "caution auth.users is not rolled back and has 1 row more than at the restore point: rows that refer to them "
        "remain in the kept schemas only"
    ) in back.out
    after = story.account()
    assert only_users(story.before, after), differences(story.before, after)
    assert only_users({**damaged, **story.before}, {**damaged, **after})

    # The new user's rows are kept; the deployment is over.
    run = run_of(back)
    kept = f"lastgood_kept_{run.rpartition('-')[2]}"
    rows = sql.SQL("SELECT count(*) FROM {} WHERE user_id::text LIKE '%00aa'")
    assert story.value(rows.format(sql.Identifier(f"{kept}_public", "sales"))) == 1
    assert story.value(rows.format(sql.Identifier("public", "sales"))) == 0
    status = second("status")
    assert status.status == 0, status
    assert "Kept schemas, newest first: each can become live again" in status.out
    assert "was left by deployment" in status.out
    assert "lastgood facts" not in status.out
    seen = second("recover", "--dry-run")
    assert f"kept schemas: {kept}_*" in seen.out, seen
    assert "Kept schemas" in seen.out

    undone = second("undo", "--yes")
    assert undone.status == 0, undone
    assert_same(damaged, story.account())
    assert re.search(r"was live until undo \S+, which brought back what deployment \S+ had left", second("status").out)

    seen = second("recover", "--dry-run")
    assert f"Or: roll back to {point.name}" in seen.out, seen
    again = second("recover", "--latest", "--yes")
    assert again.status == 0, again
    assert_same(after, story.account())

    assert re.search(r"was left by deployment \S+; it was live until rollback", second("status").out)

    # The record knows the kept schemas, and a backup does not have them.
    run = run_of(again)
    kept = f"lastgood_kept_{run.rpartition('-')[2]}_*"
    report = second("report", run)
    assert f'the previous objects are kept in the schemas "{kept}"' in report.out, report
    assert re.search(rf"{re.escape(kept)} +previous database +present", report.out), report.out
    assert second("backup", "--label", "after").status == 0
    (made,) = second.store.glob("*_after.sql")
    assert "lastgood_kept" not in made.read_text()
    same = second("facts", str(made), "--live")
    assert same.status == 0, same
    assert second("validate", "--full").status == 0
    pruned = second("prune", kept, "--yes")
    assert pruned.status == 0, pruned
    left = second("prune", "--keep", "0", "--dry-run")
    assert kept not in left.out


@pytest.mark.postgres(17, also=(15,))
def test_killed_in_its_transaction(story: Story) -> None:
    first, second = story.machine("first"), story.machine("second")
    killed(story, first, "inplace.between_moves")
    damaged = story.account()
    copied(first, second)
    aborted = second("abort", "--yes")
    assert aborted.status == 0, aborted
    assert_same(damaged, story.account())
    left = sql.SQL("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'lastgood%'")
    assert story.value(left) == 0
    back = second("recover", "--yes")
    assert back.status == 0, back
    assert_same(story.before, story.account())


@pytest.mark.postgres(17, also=(15,))
def test_killed_after_its_commit(story: Story) -> None:
    first, second = story.machine("first"), story.machine("second")
    killed(story, first, "inplace.after_commit")
    copied(first, second)
    assert_same(story.before, story.account())
    status = second("status")
    assert status.status == 7, status  # the foreign keys to the platform are not validated yet
    assert "A deployment was interrupted" not in status.out
    assert second("resume", "--yes").status == 0
    assert second("status").status == 0
    assert second("undo", "--yes").status == 0
    assert second("undo", "--yes").status == 0
    assert_same(story.before, story.account())


@pytest.mark.postgres(17, also=(15,))
def test_the_automatic_way_back(story: Story) -> None:
    first = story.machine("first")
    done = first(*story.migration(WORSE))
    assert done.status == 6, done
    assert_same(story.before, story.account())
    assert re.search(r"kept schemas +lastgood_kept_[0-9a-f]{8}_\*", done.out), done.out
    (message,) = re.findall(r"next:  (Fix the migration.*)", done.err)
    assert re.fullmatch(
        r"Fix the migration, test it with lastgood deploy --dry-run, then deploy again\. The migrated objects are kept "
        r'in the schemas "lastgood_kept_[0-9a-f]{8}_\*"\.',
        message,
    )
    status = first("status")
    assert status.status == 0, status
    # A migration that works is not taken back.
    done = first(*story.migration("ALTER TABLE public.contacts ADD COLUMN score int;"))
    assert done.status == 0, done


@pytest.mark.postgres(15, 17)
def test_the_guide_is_the_variant_in_place(story: Story) -> None:
    first = story.machine("first")
    assert first("backup").status == 0
    written = first("guide")
    assert written.status == 0, written
    text = (first.folder / "manual-rollback-procedure.md").read_text(encoding="utf-8")
    assert (
        "This database cannot be replaced as a whole: this role may not terminate the sessions of superuser "
        '"supabase\\_admin". '
        "Therefore schemas are exchanged inside it. **Back go** `app_private`, `private`, `public`, "
        "`supabase_migrations`, with their\n"
    ) in text
    assert first("guide", "--check").status == 0
    found = first("init")
    assert (
        "Rollback    in place, of the schemas app_private, private, public, supabase_migrations; this role cannot "
        'rename the database: this role may not terminate the sessions of superuser "supabase_admin"'
    ) in found.out


@pytest.mark.timeout(900)
def test_a_resumed_switch_is_checked_like_any_other(story: Story) -> None:
    first, second = story.machine("first"), story.machine("second")
    for machine in (first, second):
        machine.folder.mkdir()
        (machine.folder / "lastgood.toml").write_text('[hooks]\nsmoke = ["/bin/sh", "-c", "echo checked >> checked"]\n')
    assert first("backup").status == 0
    (point,) = first.store.glob("*.sql")
    assert first("rollback", "--yes", fault="inplace.after_commit:kill").status == -9
    away = first.store.rename(first.folder / "out of reach")
    resumed = second("resume", "--yes")
    assert resumed.status == 0, resumed
    assert (
        f'health checks and watch are skipped: the restore point "{point}" is not on this machine; check the '
        "application yourself"
    ) in resumed.err
    away.rename(first.store)
    assert second("undo", "--yes").status == 0
    assert first("rollback", "--yes", fault="inplace.after_commit:kill").status == -9
    (first.folder / "checked").unlink(missing_ok=True)
    resumed = first("resume", "--yes")
    assert resumed.status == 0, resumed
    assert (first.folder / "checked").read_text() == "checked\n"
    assert first("status").status == 0
    # An application that does not work with the restored objects.
    (first.folder / "lastgood.toml").write_text('[hooks]\nsmoke = ["false"]\n')
    failed = first("rollback", "--yes", "--on-failure", "undo")
    assert failed.status == 6, failed
    assert re.search(
        r'state: "\w+" has its objects from before the run again\.\n'
        r'next:  The restored objects are kept in the schemas "lastgood_undone_[0-9a-f]{8}_\*"; lastgood undo \S+ puts '
        r"them back into service\.\n$",
        failed.err,
    ), failed.err


LEFT_OUT = (
    "publication everything: must be superuser to create FOR ALL TABLES publication",
    "publication everything_of_realtime: must be superuser to add or set schemas",
    'event trigger pgrst_ddl_watch: permission denied to create event trigger "pgrst_ddl_watch"',
    'event trigger pgrst_drop_watch: permission denied to create event trigger "pgrst_drop_watch"',
)


@pytest.mark.timeout(900)
def test_a_copy_is_without_what_only_a_superuser_may_create(story: Story) -> None:
    story.project.psql(story.database, "CREATE PUBLICATION everything FOR ALL TABLES", user=ADMIN)
    before = story.account()
    first = story.machine("first")
    deploy, *command = story.migration("CREATE TABLE public.extra (id int PRIMARY KEY)")
    tried = first(deploy, "--dry-run", *command)
    assert tried.status == 0, tried
    for each in LEFT_OUT:
        assert f"caution the copy is without {each}\n" in tried.err
    assert re.search(r"public\.extra +no table +0 +0 +0 +0", tried.out), tried.out
    assert "Removed" not in tried.out
    assert_same(before, story.account())
    assert first("backup").status == 0
    (point,) = first.store.glob("*.sql")
    copied = first("restore", point.name, "--into", f"copy_of_{story.database}")
    try:
        assert copied.status == 0, copied
        assert "left out publication everything_of_realtime (line " in copied.out
        with story.project.connect(f"copy_of_{story.database}") as connection:
            names = connection.execute(
                "SELECT string_agg(pubname, ' ' ORDER BY pubname) FROM pg_publication"
            ).fetchone()
        assert names == ("supabase_realtime supabase_realtime_messages_publication",)
        strict = first("restore", point.name, "--into", f"strict_of_{story.database}", "--strict")
        assert strict.status == 5, strict
    finally:
        story.project.drop(f"copy_of_{story.database}")


@pytest.mark.timeout(900)
def test_a_drill_rehearses_the_way_in_place(story: Story) -> None:
    """With subscriptions to tables that no longer exist."""
    with story.project.connect(story.database, user=ADMIN) as connection:
        connection.execute(
            "INSERT INTO realtime.subscription (subscription_id, entity, claims)"
            " SELECT gen_random_uuid(), i::oid::regclass, '{}' FROM generate_series(16384, 17200) i"
            " WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = i::oid)"
        )
    before = story.account()
    first = story.machine("first")
    assert first("backup").status == 0
    drilled = first("drill", "--json", seconds=800)
    assert drilled.status == 0, drilled
    evidence = json.loads(drilled.out)["evidence"]
    assert (evidence["status"], evidence["schemas"]) == (
        "passed",
        ["app_private", "private", "public", "supabase_migrations"],
    )
    assert [each["name"] for each in evidence["proofs"]] == [
        "emergency_backup",
        "content",
        "validation",
        "undo",
        "guide",
    ]
    assert {each["schema"] for each in evidence["tables"]} == set(evidence["schemas"])
    assert (
        "the privileges of the live role, which lastgood check --capabilities tests: the drill ran as a superuser"
    ) in evidence["left_out"]
    assert_same(before, story.account())
