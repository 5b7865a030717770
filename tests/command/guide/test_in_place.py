"""The guide of a database that cannot be renamed, followed on a stand-in for a hosted project: its blocks go back in
place and forward again, and whatever fails leaves the live schemas as they were."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lastgood.command.guide import show as present
from lastgood.command.guide.guide import IN_PLACE
from lastgood.command.guide.subject import subject_of
from lastgood.points.dump_point import take
from lastgood.points.manifest import Form
from tests.command.guide.by_hand import ByHand
from tests.support.account import assert_same, differences
from tests.support.hosted import ADMIN, FOLDER, Project, account_of

SIGN_UP = "INSERT INTO auth.users (id, email) VALUES ('00000000-0000-0000-0000-0000000000aa', 'new@example.com')"
BLOCKS = tuple(each for each in IN_PLACE if not each.startswith("hook-"))
UNTIL_SWITCH = BLOCKS[: BLOCKS.index("switch")]


@dataclass
class Site:
    """A project, its account before the migration that went wrong, and its guide from that time."""

    project: Project
    database: str
    folder: Path
    before: dict[str, object]

    @property
    def store(self) -> Path:
        return self.folder / "back ups"

    def account(self) -> dict[str, object]:
        """The account without the objects that a guide keeps."""
        found = account_of(self.project, self.database)
        return {key: value for key, value in found.items() if "by_hand_" not in key}

    def backup(self, form: Form = "plain") -> Path:
        return take(self.project.target(self.database), self.store, form=form).path

    def guide(self, name: str = "guide.md") -> ByHand:
        place = self.folder / name
        subject = subject_of(self.project.target(self.database), self.store)
        place.write_text(present.document(subject), encoding="utf-8")
        return ByHand(place, self.project.server, self.folder, more=["awk"])

    def breaks(self) -> dict[str, object]:
        self.project.psql(self.database, (FOLDER / "migration.sql").read_text())
        return self.account()

    def value(self, query: str) -> object:
        with self.project.connect(self.database, user=ADMIN) as connection:
            return (connection.execute(query.encode()).fetchone() or (None,))[0]


@pytest.fixture
def site(request: pytest.FixtureRequest, projects: Callable[[int], Project], tmp_path: Path) -> Iterator[Site]:
    project = projects(getattr(request, "param", 17))
    database = project.copy()
    # A session of the platform, which the role postgres may not terminate: the database cannot be renamed.
    with project.connect(database, user=ADMIN):
        made = Site(project, database, tmp_path, {})
        made.store.mkdir()
        made.before = made.account()
        yield made
    project.drop(database)


def only_users(one: dict[str, object], other: dict[str, object]) -> bool:
    return [each.partition(":")[0] for each in differences(one, other)] == [
        "TABLE DATA auth users of supabase_auth_admin"
    ]


@pytest.mark.parametrize(
    ("site", "form"), [(15, "plain"), (17, "custom")], indirect=["site"], ids=["plain on pg15", "custom on pg17"]
)
def test_every_block_goes_back_and_forward_again(site: Site, form: Form) -> None:
    site.backup(form)
    hand = site.guide()
    site.breaks()
    site.project.psql(site.database, SIGN_UP, user="supabase_auth_admin")
    damaged = site.account()
    output = hand.does(*UNTIL_SWITCH)
    assert "public.notes                          | 400" in output, "the loss was not shown"
    assert_same(damaged, site.account())
    hand.does(*BLOCKS[len(UNTIL_SWITCH) :])
    assert only_users(site.before, site.account()), differences(site.before, site.account())
    assert site.value("SELECT count(*) FROM by_hand_kept_1_public.sales WHERE user_id::text LIKE '%00aa'") == 1
    hand.does("undo")
    assert_same(damaged, site.account())
    assert site.value("SELECT count(*) FROM by_hand_undone_1_public.notes") == 400
    assert [block.id for block in hand.untried if not block.id.startswith("quick")] == []
    # Another attempt.
    hand.variables["RUN"] = "2"
    hand.does(*BLOCKS)
    assert only_users(site.before, site.account())
    # The dump has the triggers of the kept schemas, too.
    hand.does("undo")
    assert_same(damaged, site.account())


def test_the_quick_reference(site: Site) -> None:
    site.backup()
    hand = site.guide()
    damaged = site.breaks()
    hand.does("quick-backup", "quick-extract", "quick-switch")
    assert_same(site.before, site.account())
    hand.does("quick-undo")
    assert_same(damaged, site.account())


def test_blocks_in_the_wrong_order(site: Site) -> None:
    site.backup()
    hand = site.guide()
    damaged = site.breaks()
    assert hand.fails("rights") == "cannot try: nothing was started (block start)\n"
    hand.does("start")
    assert hand.fails("extract") == "cannot extract: the restore point was not checked (block point)\n"
    hand.does("point", "rights")
    assert hand.fails("extract") == "cannot extract: there is no emergency backup yet (block backup)\n"
    assert hand.fails("switch") == "cannot switch: nothing is extracted (block extract)\n"
    assert hand.fails("undo") == "cannot undo: attempt RUN=1 has not switched\n"
    hand.does("backup")
    assert hand.fails("extract") == "cannot extract: the figures are missing (block expected)\n"
    hand.does("expected", "extract")
    assert "cannot verify: the schemas are not switched; nothing was changed" in hand.fails("verify")
    assert_same(damaged, site.account())
    long = "x" * 47
    site.project.psql(site.database, f"CREATE SCHEMA {long}")
    assert f"cannot switch by hand: schema {long} has too long a name\n" in hand.fails("switch")
    site.project.psql(site.database, f"DROP SCHEMA {long}")
    hand.does("switch")
    assert hand.fails("switch") == "cannot switch: it is done; export another RUN to do it again\n"
    # Interrupted just after the switch: the server knows of it, whatever is in the folder.
    (site.store / "by-hand-1" / "switch.done").unlink()
    assert re.search(
        r"cannot switch by hand: schema by_hand_kept_1_\w+ exists; export another RUN and paste Names",
        hand.fails("switch"),
    )
    hand.does("verify", "undo")
    assert hand.fails("undo") == "cannot undo: attempt RUN=1 is undone\n"
    assert_same(damaged, site.account())


def test_a_difference_ends_the_switch(site: Site) -> None:
    site.backup()
    hand = site.guide()
    damaged = site.breaks()
    hand.does(*UNTIL_SWITCH)
    extracted = site.store / "by-hand-1" / "point.sql"
    lines = extracted.read_text().splitlines(keepends=True)
    start = lines.index("COPY public.profiles (id, display) FROM stdin;\n")
    extracted.write_text("".join([*lines[: start + 1], *lines[start + 2 :]]))
    output = hand.fails("switch")
    assert "rows | public.profiles | 20            | 19" in output
    assert "cannot continue: 1 of the figures above differ from those of the restore point" in output
    assert_same(damaged, site.account())


def test_users_who_were_deleted_since_end_the_switch(site: Site) -> None:
    site.backup()
    hand = site.guide()
    site.project.psql(
        site.database,
        "ALTER TABLE public.profiles DROP CONSTRAINT profiles_id_fkey; DELETE FROM public.notes; "
        "UPDATE public.contacts SET owner = NULL",
    )
    site.project.psql(
        site.database, "DELETE FROM auth.users WHERE email = 'u3@example.com'", user="supabase_auth_admin"
    )
    damaged = site.account()
    hand.does(*UNTIL_SWITCH)
    assert 'violates foreign key constraint "' in hand.fails("switch")
    assert_same(damaged, site.account())


def test_a_reader_in_the_way_ends_the_switch(site: Site) -> None:
    site.backup()
    hand = site.guide()
    damaged = site.breaks()
    hand.does(*UNTIL_SWITCH)
    with site.project.connect(site.database) as reader, reader.transaction():
        reader.execute("SELECT FROM public.contacts")
        assert "canceling statement due to lock timeout" in hand.fails("switch")
    assert_same(damaged, site.account())
    hand.does("switch")
    assert_same(site.before, site.account())


def test_a_trigger_made_since_that_only_the_platform_may_drop(site: Site) -> None:
    site.backup()
    hand = site.guide()
    site.project.psql(
        site.database,
        "CREATE FUNCTION public.left() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN old; END'; "
        "CREATE TRIGGER on_auth_user_deleted AFTER DELETE ON auth.users EXECUTE FUNCTION public.left()",
    )
    damaged = site.account()
    hand.does(*UNTIL_SWITCH)
    assert "must be owner of relation users" in hand.fails("switch")
    assert_same(damaged, site.account())


def test_rows_as_insert_commands_are_refused(site: Site) -> None:
    made = [str(site.project.server.bin / "pg_dump"), "--inserts", "-d", site.project.server.url(site.database)]
    (site.store / "inserts.sql").write_bytes(subprocess.run(made, capture_output=True, check=True).stdout)
    hand = site.guide()
    hand.does("start", "point", "rights", "backup", "expected")
    assert hand.fails("extract") == (
        "cannot extract: the dump has rows as INSERT commands; use one made without --inserts\n"
    )


def test_another_restore_point_than_the_newest(site: Site) -> None:
    older = site.backup()
    site.project.psql(site.database, "DELETE FROM public.events")
    site.backup()
    hand = site.guide()
    site.breaks()
    hand.variables["OTHER_POINT"] = str(older)
    hand.does(*UNTIL_SWITCH)
    assert hand.fails("switch") == (
        "cannot switch: the figures of this restore point are unknown, because it is not the one of the guide. To "
        'switch\nwithout a comparison: set UNCOMPARED="$POINT", then run this block again\n'
    )
    hand.variables["UNCOMPARED"] = str(older)
    hand.does("switch", "verify")
    assert_same(site.before, site.account())
