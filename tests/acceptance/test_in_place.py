"""A rollback in place, from the command's request to the undo, on a stand-in for a hosted project."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lastgood import rollback, status, undo
from lastgood.checklist import OTHER_WAY
from lastgood.events import Caution, Event, Note
from lastgood.in_place.kept import remove_schemas
from lastgood.journal import Journal
from lastgood.plan.plan import Choice, Request
from lastgood.points.dump_point import take
from lastgood.postgres.server import Connection
from tests.support.account import assert_same
from tests.support.hosted import ADMIN, FOLDER, Project, account_of


@dataclass(frozen=True, slots=True)
class Hosted:
    """A project with a restore point from before the migration that went wrong."""

    project: Project
    database: str
    request: Request
    before: dict[str, object]

    @property
    def left_empty(self) -> list[str]:
        """What a rollback says about a materialized view that only the operator can fill: before PostgreSQL 16, no
        other role may give a new one the right to read through row-level security."""
        if self.project.major > 15:
            return []
        return [
            "cannot refresh materialized view public.totals, which may be empty or out of date: query would be "
            'affected by row-level security policy for table "contacts"; run: '
            'REFRESH MATERIALIZED VIEW "public"."totals"'
        ]

    def assert_back(self) -> None:
        """The database is as it was before the migration."""
        if self.left_empty:
            self.project.psql(self.database, "REFRESH MATERIALIZED VIEW public.totals")
        assert_same(self.before, account_of(self.project, self.database))


@pytest.fixture
def hosted(hosted_project: Project, tmp_path: Path) -> Iterator[Hosted]:
    project = hosted_project
    database = project.copy()
    target = project.target(database)
    before = account_of(project, database)
    point = take(target, tmp_path / "backups")
    project.psql(database, (FOLDER / "migration.sql").read_text())
    wanted = Request(target, tmp_path / "backups", tmp_path / "state", Choice(point=point.path.name), way="in-place")
    yield Hosted(project, database, wanted, before)
    project.drop(database)


@pytest.mark.postgres(15, 17)
def test_back_in_place_and_forward_again(hosted: Hosted) -> None:
    """The platform reloads its schema cache once a switch."""
    damaged = account_of(hosted.project, hosted.database)
    with hosted.project.connect(hosted.database, user=ADMIN) as platform:
        platform.execute("LISTEN pgrst")
        prepared = rollback.plan(hosted.request)
        assert prepared.plan.refusals == ()
        report = rollback.run(prepared)
        assert report.status == "done"
        assert reloads(hosted, platform) == ["reload schema"]
        hosted.assert_back()
        reloads(hosted, platform)
        plan = undo.plan(hosted.request.target, hosted.database)
        undone = undo.undo(hosted.request.target, plan, hosted.request.context())
        assert undone.undoes == report.run
        assert reloads(hosted, platform) == ["reload schema"]
        remove_schemas(hosted.request.target, undone.run, "undone")
        assert reloads(hosted, platform) == []
    assert_same(damaged, account_of(hosted.project, hosted.database))


def reloads(hosted: Hosted, platform: Connection) -> list[str]:
    """The notifications to the platform since the last call. They arrive in the order of commits."""
    with hosted.project.connect(hosted.database) as connection:
        connection.execute("NOTIFY pgrst, 'end'")
    heard: list[str] = []
    for each in platform.notifies(timeout=10):
        if each.payload == "end":
            return heard
        heard.append(each.payload)
    raise AssertionError(heard)


@pytest.mark.postgres(17, also=(15,))
@pytest.mark.parametrize("killed", [False, True])
def test_failed_checks_undo_the_exchange(
    hosted: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """With the application stopped meanwhile; killed after the undo, the run is finished by a resume."""
    damaged = account_of(hosted.project, hosted.database)
    (tmp_path / "lastgood.toml").write_text('[hooks]\nstop = ["true"]\nstart = ["true"]\nsmoke = ["false"]\n')
    monkeypatch.chdir(tmp_path)
    command = ("rollback", "--in-place", "--yes", "--json", "--on-failure", "undo")
    status, out, errors = run(hosted, *command, fault="application.before_start_again:kill" if killed else "")
    if killed:
        assert status == -9, errors
        status, out, errors = run(hosted, "resume", "--yes", "--json")
    assert status == 6, errors
    assert_same(damaged, account_of(hosted.project, hosted.database))
    error = json.loads(out)["error"]
    assert error["state"] == (
        f'"{hosted.database}" has its objects from before the run again. The application was started again.'
    )
    kept = "" if killed else f' in the schemas "{error["undo"]["kept"]}"'
    undoing = Journal.newest(hosted.request.state, "undo")
    assert error["hint"] == (
        f"The restored objects are kept{kept}; lastgood undo {next(iter(undoing)).run} puts them back into service."
    )
    assert run(hosted, "status")[0] == 0


SIGN_UP = "INSERT INTO auth.users (id, email) VALUES ('00000000-0000-0000-0000-0000000000aa', 'new@example.com')"


@pytest.mark.postgres(17, also=(15,))
def test_users_who_signed_up_since_are_reported_and_their_rows_kept(hosted: Hosted) -> None:
    hosted.project.psql(hosted.database, SIGN_UP, user="supabase_auth_admin")
    events: list[Event] = []
    report = rollback.run(rollback.plan(hosted.request), events.append)
    kept = report.kept.replace("*", "public")
    assert [each.text for each in events if isinstance(each, Caution)] == [
        "1 row of auth.users, added since the restore point, will have no matching row in public.sales; the matching "
        f'rows are kept in schema "{kept}"',
        *hosted.left_empty,
    ]
    assert list(report.carried_over.remarks) == hosted.left_empty
    empty = ('REFRESH MATERIALIZED VIEW "public"."totals"',) if hosted.left_empty else ()
    assert status.read(hosted.request.target).empty_views == empty
    hosted.project.psql(hosted.database, "REFRESH MATERIALIZED VIEW public.totals")
    assert status.read(hosted.request.target).empty_views == ()
    with hosted.project.connect(hosted.database, user=ADMIN) as connection:
        rows = sql.SQL("SELECT count(*) FROM {} WHERE user_id::text LIKE '%aa'").format(sql.Identifier(kept, "sales"))
        assert connection.execute(rows).fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM auth.users WHERE email = 'new@example.com'").fetchone() == (1,)


BEFORE_GONE = """
UPDATE public.contacts SET owner = NULL
WHERE owner = (SELECT s.id FROM public.sales s JOIN auth.users u ON u.id = s.user_id WHERE u.email = 'u20@example.com');
DELETE FROM public.profiles WHERE display = 'u20@example.com';
CREATE TABLE public.parted (who uuid REFERENCES auth.users ON DELETE SET NULL, n int) PARTITION BY RANGE (n);
CREATE TABLE public.parted1 PARTITION OF public.parted FOR VALUES FROM (0) TO (10);
INSERT INTO public.parted SELECT id, 1 FROM auth.users WHERE email = 'u20@example.com';
"""


@pytest.mark.postgres(15, also=(18,))
def test_rows_of_users_who_were_deleted_since_follow_their_foreign_keys(hosted: Hosted) -> None:
    """The role that builds may not read the users. Before 18, the key of a partitioned table is added at the end."""
    hosted.project.psql(hosted.database, BEFORE_GONE)
    point = take(hosted.request.target, hosted.request.store).path.name
    hosted.project.psql(hosted.database, "DELETE FROM auth.users WHERE email = 'u20@example.com'", user=ADMIN)
    events: list[Event] = []
    prepared = rollback.plan(replace(hosted.request, choice=Choice(point=point)))
    assert prepared.plan.code is not None and prepared.plan.code.confined
    with hosted.project.connect(hosted.database, user=ADMIN) as platform:
        platform.execute("LISTEN pgrst")
        assert rollback.run(prepared, events.append).status == "done"
        assert reloads(hosted, platform) == ["reload schema"]
    assert [each.text for each in events if isinstance(each, Note) and "referenced rows were deleted" in each.text] == [
        "public.parted1: 1 row changed: the referenced rows were deleted since the restore point",
        "public.sales: 1 row left out: the referenced rows were deleted since the restore point",
    ]
    with hosted.project.connect(hosted.database, user=ADMIN) as connection:
        assert connection.execute("SELECT * FROM public.parted").fetchall() == [(None, 1)]
        keys = "SELECT bool_and(convalidated) FROM pg_constraint WHERE contype = 'f' AND conname ~ '^(parted|sales)_'"
        assert connection.execute(keys).fetchone() == (True,)
        assert connection.execute("SELECT FROM pg_roles WHERE rolname LIKE 'lastgood%'").fetchall() == []


NOT_IN_PLACE = """
CREATE TYPE public.stage_of AS ENUM ('a');
CREATE FUNCTION public.text_of(public.stage_of) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT NULL::text';
CREATE CAST (public.stage_of AS text) WITH FUNCTION public.text_of(public.stage_of);
CREATE FUNCTION public.same(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE TABLE public.divided (u uuid REFERENCES auth.users, i int) PARTITION BY RANGE (i);
CREATE TABLE public.divided_1 PARTITION OF public.divided FOR VALUES FROM (0) TO (10);
CREATE INDEX ON public.divided_1 (i) WHERE public.same(i) > 0;
"""


def test_the_plan_refuses_what_cannot_be_built_in_place(hosted: Hosted) -> None:
    hosted.project.psql(hosted.database, NOT_IN_PLACE)
    point = take(hosted.request.target, hosted.request.store).path.name
    plan = rollback.plan(replace(hosted.request, choice=Choice(point=point))).plan
    assert {each.code: each.text for each in plan.refusals} == {
        "cannot_be_moved": "cast from public.stage_of to text depends on function public.text_of(public.stage_of), but "
        "is not rolled back",
        "outside_of_schemas": "cast (public.stage_of AS text) of the restore point cannot be restored in place: it is "
        "outside of all schemas",
        "key_needs_code": "the foreign key of public.divided to auth.users cannot be validated: definitions of the "
        "table call functions, which would run with your rights",
    }


@pytest.mark.postgres(17, also=(15,))
def test_without_a_request_the_way_follows_the_rights(hosted: Hosted) -> None:
    """Whether or not a session of the platform is connected at this moment."""
    plan = rollback.plan(replace(hosted.request, way=None)).plan
    assert (plan.way, plan.refusals) == ("in-place", ())
    assert plan.schemas == ("app_private", "crm", "private", "public", "supabase_migrations")
    staying = "auth, cron, extensions, graphql, graphql_public, net, realtime, storage, vault"
    texts = [each.text for each in plan.findings]
    assert f"these schemas are not rolled back: {staying}" in texts
    assert (
        "materialized view public.totals: refreshed after the switch, and possibly empty until then, because functions "
        "in the query may read tables by name"
    ) in texts
    assert (
        rollback.plan(
            replace(hosted.request, target=hosted.project.target(hosted.database, user=ADMIN), way=None)
        ).plan.way
        == "by-name"
    )


@pytest.mark.postgres(17, also=(15,))
def test_a_refusal_of_one_way_names_the_other_one(hosted: Hosted) -> None:
    def other_way(request: Request) -> tuple[set[str], list[str]]:
        plan = rollback.plan(request).plan
        return {each.code for each in plan.refusals}, [each.text for each in plan.findings if each.code == OTHER_WAY]

    assert other_way(replace(hosted.request, way="by-name")) == (
        {"no_lock", "foreign_owners"},
        ["the schemas can be exchanged inside the database instead: --in-place"],
    )
    with hosted.project.connect(hosted.database, user=ADMIN) as admin:
        admin.execute("CREATE VIEW extensions.contacts AS SELECT id FROM public.contacts")
    by_superuser = replace(
        hosted.request, target=hosted.project.target(hosted.database, user=ADMIN), schemas=("public",)
    )
    assert other_way(by_superuser) == (
        {"cannot_be_moved"},
        ["the databases can exchange their names instead: --by-name"],
    )
    with hosted.project.connect(hosted.database, user=ADMIN) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(*map(sql.Identifier, (hosted.database, ADMIN))))
    refused = rollback.plan(replace(hosted.request, way=None)).plan.refused()
    assert refused is not None
    assert refused.hint.endswith(
        " The schemas cannot be exchanged inside the database instead: this role may not create schemas: permission "
        f"denied for database {hosted.database}"
    )


@pytest.mark.postgres(17, also=(15,))
def test_a_deployment_that_is_refused_leaves_no_restore_point(hosted: Hosted) -> None:
    """The rights are checked before the restore point is made."""
    there = sorted(hosted.request.store.iterdir())
    status, _, errors = run(hosted, "deploy", "--by-name", "--", "true")
    assert status == 3
    message, _, rest = errors[errors.index("error:") :].partition("against writers")
    assert message.startswith(
        "error: cannot deploy: a rollback would not be possible: this role cannot lock auth.schema_migrations, "
    )
    assert " ".join(rest.split()) == (
        f': it lacks write privileges state: "{hosted.database}" was not touched: the migration was not started. next: '
        "Connect as the tables' owner or a superuser. The schemas can be exchanged inside the database instead: "
        "--in-place"
    )
    assert sorted(hosted.request.store.iterdir()) == there
    assert run(hosted, "deploy", "--", "true")[0] == 0


@pytest.mark.postgres(17, also=(15,))
def test_room_for_the_second_copy_of_the_schemas(hosted: Hosted) -> None:
    def lines() -> list[str]:
        items = rollback.plan(hosted.request).plan.checklist.items
        return [line.text for each in items if each.name == "room" for line in each.lines]

    (text, *_) = lines()
    assert re.fullmatch(
        r"the server's disk has [\d.]+ [GT]B free; about [\d.]+ [kM]B are needed in its tablespace for a second copy "
        "of the schemas and its WAL",
        text,
    )
    with hosted.project.connect(hosted.database) as connection:
        (path,) = connection.execute("SELECT pg_relation_filepath('public.tags')").fetchone() or ("",)
        # The server counts each segment's size; this one takes no room, and is not read.
        with (hosted.project.server.data / f"{path}.1").open("wb") as file:
            file.truncate(8 << 40)
        assert connection.execute("SELECT count(*) FROM public.tags").fetchone() == (0,)
        connection.execute("BEGIN")
        connection.execute("LOCK TABLE public.contacts IN SHARE MODE")
        connection.execute("PREPARE TRANSACTION 'left open'")
    plan = rollback.plan(hosted.request).plan
    with hosted.project.connect(hosted.database) as connection:
        connection.execute("ROLLBACK PREPARED 'left open'")
    (waits,) = [each.text for each in plan.findings if each.code == "prepared_transaction"]
    assert re.fullmatch(
        'the switch has to wait for prepared transaction "left open" of role "postgres" since .* UTC, which ends with '
        "COMMIT PREPARED 'left open' or ROLLBACK PREPARED 'left open'",
        waits,
    )
    (refusal, *_) = plan.refusals
    assert refusal.code == "no_room"
    assert refusal.text.endswith(
        " free; about 16 TB are needed in its tablespace for a second copy of the schemas and its WAL"
    )


def run(hosted: Hosted, *arguments: str, fault: str = "") -> tuple[int, str, str]:
    request = hosted.request
    environment = {
        **os.environ,
        "LASTGOOD_DB": hosted.project.server.url(hosted.database),
        "LASTGOOD_STORE": str(request.store),
        "LASTGOOD_STATE": str(request.state),
        "LASTGOOD_FAULT": fault,
    }
    arguments = (sys.executable, "-m", "lastgood", *arguments)
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.postgres(17, also=(15,))
def test_the_commands_of_an_operator(hosted: Hosted) -> None:
    """With a run that was killed in its build, an undo, and what they keep."""
    status, _, errors = run(hosted, "rollback", "--in-place", "--yes", fault="build.after_load:kill")
    assert status != 0, errors
    assert "lastgood resume" in run(hosted, "status")[1]
    assert run(hosted, "abort", "--yes")[0] == 0
    status, out, errors = run(hosted, "rollback", "--in-place", "--yes")
    assert status == 0, errors
    assert 'the previous objects, in the schemas "lastgood_kept_' in out
    assert "until lastgood prune; supabase db reset drops them, db pull and db diff list them" in out
    hosted.assert_back()
    # Types of the application's own are the same ones in the kept schemas.
    (kept,) = set(re.findall(r'"(lastgood_kept_\w+_\*)"', out))
    status, out, errors = run(hosted, "diff", kept, "--table", "contacts")
    assert (status, "public.contacts" in out, "compared as text" in out) == (3, True, False), out + errors
    assert "lastgood undo" in run(hosted, "status")[1]
    assert run(hosted, "undo", "--yes")[0] == 0
    assert run(hosted, "undo", "--yes")[0] == 0  # and forward again
    hosted.assert_back()
    status, out, errors = run(hosted, "prune", "--keep", "0", "--dry-run")
    assert status == 0, errors
    assert "kept schemas" in out


@pytest.mark.postgres(17, also=(15,))
def test_kept_schemas_go_only_by_prune(hosted: Hosted) -> None:
    def kept() -> set[str]:
        with hosted.project.connect(hosted.database) as connection:
            return {name for (name,) in connection.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ '_kept_'")}

    assert run(hosted, "rollback", "--yes")[0] == 0
    first = kept()
    assert len(first) == 5
    for command in (("backup",), ("deploy", "--", "true"), ("rollback", "--yes")):
        assert run(hosted, *command)[0] == 0
        assert first <= kept()
    status, _, errors = run(hosted, "rollback", "--yes", fault="build.after_load:kill")
    assert status == -9, errors
    assert run(hosted, "abort", "--yes")[0] == 0
    assert len(kept()) == 9
    assert run(hosted, "prune", "--keep", "1", "--yes")[0] == 0
    assert len(kept()) == 4
    assert not first & kept()


@pytest.mark.postgres(17, also=(15,))
def test_a_check_that_reads_a_table_by_name_is_left_to_do_after_the_switch(hosted: Hosted) -> None:
    """With a point from after the migration, as a function in it reads a table. It is evaluated with the rights of the
    operator, and therefore only if the code is trusted."""
    trusted = hosted.project.major == 15
    hosted.project.psql(
        hosted.database,
        "CREATE FUNCTION public.is_tag(text) RETURNS boolean LANGUAGE sql STABLE"
        " AS 'SELECT $1 IS NULL OR EXISTS (SELECT FROM public.tags WHERE tag = $1)';"
        "INSERT INTO public.tags (tag) VALUES ('a');"
        "CREATE TABLE public.tagged (tag text CONSTRAINT known CHECK (public.is_tag(tag)));"
        "INSERT INTO public.tagged VALUES ('a')",
    )
    point = take(hosted.request.target, hosted.request.store).path.name
    hosted.project.psql(hosted.database, "DELETE FROM public.tags")
    command = ("rollback", point, "--in-place", "--yes", *(["--trust-code", "it is ours"] if trusted else []))
    status, _, errors = run(hosted, *command, fault="inplace.after_commit:kill")
    assert status == -9, errors
    status, out, _ = run(hosted, "status")
    assert status == 7
    assert (
        " left: 0 indexes to build, 0 foreign keys to validate, 1 materialized view to refresh, 1 check to verify"
        in (" ".join(out.split()))
    )
    status, out, errors = run(hosted, "resume", "--yes")
    assert status == 0, errors
    assert ("check constraint known on public.tagged is NOT VALID" in out + errors) != trusted
    with hosted.project.connect(hosted.database) as connection:
        query = "SELECT convalidated FROM pg_constraint WHERE conrelid = 'public.tagged'::regclass"
        assert connection.execute(query).fetchone() == (trusted,)
    assert run(hosted, "status")[0] == 0


@pytest.mark.postgres(17, also=(15,))
def test_sessions_from_before_are_reported_or_terminated(hosted: Hosted) -> None:
    events: list[Event] = []
    url = hosted.project.server.url(hosted.database, user="authenticator")
    with psycopg.connect(url, autocommit=True) as client:
        first = rollback.run(rollback.plan(hosted.request), events.append)
        assert client.execute("SELECT 1").fetchone() == (1,)
        assert about_sessions(events) == [
            '1 session from before the switch: a prepared statement whose result columns changed fails with "cached '
            'plan must not change result type" until the client prepares it again or reconnects; to terminate these '
            "sessions: --reconnect"
        ]
        events.clear()
        rollback.run(rollback.plan(replace(hosted.request, reconnect=True)), events.append)
        assert about_sessions(events) == ["1 session from before the switch terminated, to reconnect"]
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")
    assert first.way == "in-place"


def about_sessions(events: list[Event]) -> list[str]:
    return [each.text for each in events if isinstance(each, Note) and "session from before" in each.text]
