"""Which emergency follows from which evidence, and what is proposed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lastgood.command.recover.diagnosis import diagnose
from lastgood.command.recover.evidence import Candidate, Goal, LockedOut, Seen, ServerState, Sibling
from lastgood.facts import Facts
from lastgood.loss import Content
from lastgood.points.manifest import DeploymentNote, Manifest
from tests.command.recover.cases import NOW, WHOLE, candidate, evidence, facts, kept, live, unfinished, without_keys

OLD = candidate("old.sql", 5, facts(**WHOLE))
BROKEN = candidate("new.sql", 1, None, wrong="it is cut off")


@pytest.mark.parametrize(
    ("changes", "emergency", "damaged", "proposed"),
    [
        pytest.param({}, "older_state", False, ["leave", "rollback new.sql"], id="whole"),
        pytest.param(
            {"live": live(contacts=100)}, "unknown_state", True, ["rollback new.sql!"], id="a table is missing"
        ),
        pytest.param(
            {"live": live(contacts=0, deals=50)}, "unknown_state", True, ["rollback new.sql!"], id="a table is empty"
        ),
        pytest.param(
            {"live": without_keys(live(**WHOLE))}, "unknown_state", True, ["rollback new.sql!"], id="keys are missing"
        ),
        pytest.param(
            {"live": live(contacts=40, deals=50)}, "unknown_state", True, ["rollback new.sql!"], id="half of the rows"
        ),
        pytest.param(
            {"live": live(contacts=90, deals=50)}, "older_state", False, ["leave", "rollback new.sql"], id="rows fewer"
        ),
        pytest.param(
            {"live": live("20260202", contacts=100)},
            "older_state",
            False,
            ["leave", "rollback new.sql"],
            id="explained",
        ),
        pytest.param(
            {
                "live": replace(
                    live(**WHOLE),
                    objects=frozenset(one for one in live(**WHOLE).objects or () if "deals_pkey" not in one[1]),
                ),
                "candidates": (candidate("new.sql", 1, facts(None, **WHOLE)),),
            },
            "unknown_state",
            True,
            ["rollback new.sql!"],
            id="a primary key is missing, migrations not known",
        ),
        pytest.param(
            {"live": live(contacts=100), "candidates": (candidate("new.sql", 1, facts(None, **WHOLE)),)},
            "older_state",
            False,
            ["leave", "rollback new.sql"],
            id="a table is missing, migrations not known",
        ),
        pytest.param(
            {"live": live(scores=1, **WHOLE)}, "unknown_state", True, ["rollback new.sql!"], id="an unrecorded table"
        ),
        pytest.param(
            {"live": live("20260202", scores=1, **WHOLE)},
            "older_state",
            False,
            ["leave", "rollback new.sql"],
            id="a recorded one",
        ),
        pytest.param(
            {"live": replace(live(**WHOLE), invalid=("public.i",))},
            "unknown_state",
            True,
            ["rollback new.sql!"],
            id="an invalid index",
        ),
        pytest.param(
            {"live": replace(live(**WHOLE), locked_out=(LockedOut("web", 0, 2),))},
            "unknown_state",
            True,
            ["rollback new.sql!"],
            id="no role may read",
        ),
        pytest.param(
            {"live": replace(live(**WHOLE), locked_out=(LockedOut("web", 2, 2), LockedOut("anon", 0, 2)))},
            "older_state",
            False,
            ["leave", "rollback new.sql"],
            id="one may not",
        ),
        pytest.param({"live": None}, "older_state", False, ["rollback new.sql"], id="the live database can't be read"),
        pytest.param(
            {"candidates": (BROKEN, OLD), "live": live()},
            "corrupt_backup",
            True,
            ["rollback old.sql!", "by_hand"],
            id="corrupt, an older one is whole",
        ),
        pytest.param(
            {"candidates": (BROKEN, OLD)},
            "corrupt_backup",
            False,
            ["leave", "rollback old.sql", "by_hand"],
            id="corrupt, and nothing is broken",
        ),
        pytest.param({"candidates": (BROKEN,)}, "corrupt_backup", False, ["by_hand"], id="corrupt, and the only one"),
        pytest.param({"candidates": ()}, "no_backup", False, [], id="none"),
        pytest.param(
            {"candidates": (), "live": live(), "server": ServerState(clock=NOW, kept=(kept(1),))},
            "no_backup",
            True,
            ["undo run-1!"],
            id="none but a kept database",
        ),
        pytest.param(
            {"candidates": (), "siblings": (Sibling("copy", 1, 2, 2, None, None),)},
            "no_backup",
            False,
            ["by_hand"],
            id="none but a copy",
        ),
        pytest.param(
            {"candidates": (), "elsewhere": (OLD,), "live": live()},
            "no_backup",
            True,
            ["rollback old.sql"],
            id="none but a foreign dump elsewhere",
        ),
        pytest.param(
            {"server": ServerState(error="cannot connect"), "live": None},
            "server_unreachable",
            False,
            ["by_hand", "by_hand"],
            id="down",
        ),
        pytest.param(
            {"server": ServerState(unfinished=(unfinished(),)), "live": live()},
            "unfinished_run",
            True,
            ["by_hand"],
            id="unfinished",
        ),
        pytest.param(
            {"server": ServerState(unfinished=(unfinished("x"),), working="x")},
            "unfinished_run",
            False,
            ["by_hand"],
            id="at work",
        ),
        pytest.param(
            {"server": ServerState(access="missing"), "live": None},
            "database_missing",
            True,
            ["reinstate new.sql!"],
            id="missing",
        ),
        pytest.param(
            {"server": ServerState(access="missing", similar_names=("app_prod",)), "live": None},
            "database_missing",
            True,
            ["by_hand", "reinstate new.sql"],
            id="renamed",
        ),
        pytest.param(
            {"server": ServerState(access="missing", kept=(kept(2),)), "live": None},
            "database_missing",
            True,
            ["reinstate new.sql!", "by_hand"],
            id="missing, with a kept one",
        ),
        pytest.param(
            {"server": ServerState(access="invalid"), "live": None},
            "database_missing",
            True,
            ["reinstate new.sql!"],
            id="invalid",
        ),
        pytest.param(
            {"server": ServerState(access="closed"), "live": None}, "database_closed", False, ["by_hand"], id="closed"
        ),
        pytest.param({"server": ServerState(standby=True)}, "older_state", False, ["by_hand"], id="a standby"),
    ],
)
def test_which_emergency_it_is(changes: dict[str, Any], emergency: str, damaged: bool, proposed: list[str]) -> None:
    found = diagnose(evidence(**changes))
    assert (found.emergency, found.damaged) == (emergency, damaged)
    output = [
        f"{each.kind} {each.name.rpartition('/')[2]}".strip() + ("!" if each.automatic else "")
        for each in found.proposals
    ]
    assert output == proposed


@pytest.mark.parametrize(
    ("goal", "proposed"),
    [
        (Goal(latest=True), "/store/new.sql"),
        (Goal(before=NOW - timedelta(days=3)), "/store/old.sql"),
        (Goal(before_migration="20260301"), "/store/new.sql"),
        (Goal(before_migration="20260101"), ""),
        (Goal(before=NOW - timedelta(days=9)), ""),
    ],
)
def test_what_the_operator_asks_for_is_what_is_proposed(goal: Goal, proposed: str) -> None:
    points = (candidate("new.sql", 1, facts(**WHOLE)), OLD)
    found = diagnose(evidence(goal=goal, candidates=points))
    assert [(each.name, each.automatic) for each in found.proposals] == ([(proposed, True)] if proposed else [])
    assert found.unrecoverable == (not proposed)


def test_a_point_made_after_the_damage_is_passed_over() -> None:
    late = candidate("late.sql", 0, facts(contacts=100))
    found = diagnose(evidence(candidates=(late, OLD), live=live(contacts=100)))
    assert found.emergency == "unknown_state"
    assert [each.name for each in found.proposals] == ["/store/old.sql"]
    assert (
        "late.sql was made after the damage: like the database now, it lacks what old.sql has: rows of public.deals"
    ) in [reason.text for reason in found.reasons]
    # It can still be chosen by its number.
    assert [(each.number, each.problem) for each in found.timeline] == [
        (1, "like the database now, it lacks what old.sql has: rows of public.deals"),
        (2, ""),
    ]


def made_for(run: str, days: int, then: Facts) -> Candidate:
    """A restore point that a deployment made which then changed nothing."""
    found = candidate("before_deployment.sql", days, then)
    manifest = Manifest(
        tool_version="1",
        database="app",
        made_at=found.point.made_at,
        server_version="18.0",
        pg_dump_version="18.0",
        form="plain",
        options=(),
        lsn=None,
        size=1,
        sha256="",
        facts=then,
        deployment=DeploymentNote(run=run, outcome="changed nothing"),
    )
    return replace(found, point=replace(found.point, manifest=manifest))


def test_the_point_of_a_deployment_that_changed_nothing_is_not_what_is_proposed() -> None:
    late = made_for("run-7", 0, facts(**WHOLE))
    found = diagnose(evidence(candidates=(late, OLD)))
    assert (found.emergency, [each.name for each in found.proposals]) == ("older_state", ["", "/store/old.sql"])
    assert (found.proposals[0].title, found.proposals[0].detail, found.proposals[0].commands) == (
        'leave "app" as it is, unless you know that data is wrong',
        "No damage was found. A rollback would remove the rows written since the restore point.",
        (),
    )
    assert [(each.number, each.proposed, each.problem) for each in found.timeline] == [
        (1, False, "it was made for deployment run-7, which changed nothing"),
        (2, False, ""),
    ]
    # Asked for, it is taken; and it is the way out of what happened after it.
    asked = diagnose(evidence(candidates=(late, OLD), goal=Goal(latest=True)))
    assert asked.proposals[0].name == "/store/before_deployment.sql"
    dropped = diagnose(evidence(candidates=(late, OLD), live=live(contacts=100)))
    assert (dropped.emergency, dropped.proposals[0].name) == ("unknown_state", "/store/before_deployment.sql")


def test_a_point_that_equals_the_database_is_not_what_is_proposed() -> None:
    same = {("public", name): Content("equal", rows=rows) for name, rows in WHOLE.items()}
    changed = {**same, ("public", "deals"): Content("changed", rows=50)}
    new = candidate("new.sql", 1, facts(**WHOLE))
    found = diagnose(evidence(candidates=(new, OLD), live=replace(live(**WHOLE), content=(same, changed))))
    assert [each.name for each in found.proposals] == ["", "/store/old.sql"]
    assert "new.sql would change nothing: it equals the current database" in [each.text for each in found.reasons]
    # Without an alternative it is proposed, with a remark that it does not help.
    alone = diagnose(evidence(candidates=(new,), live=replace(live(**WHOLE), content=(same,))))
    assert alone.proposals[1].name == "/store/new.sql"
    assert "It would change nothing: it equals the current database." in alone.proposals[1].detail


@pytest.mark.parametrize("points", [(), (OLD,)])
def test_what_a_deployment_broke_is_never_proposed(points: tuple[Candidate, ...]) -> None:
    broken = kept(0).model_copy(update={"deployment": "run-7", "origin": "was left by deployment run-7"})
    found = diagnose(
        evidence(candidates=points, server=ServerState(clock=NOW, kept=(broken,)), live=live(contacts=100))
    )
    assert [each.name for each in found.proposals if each.kind != "leave"] == [str(each.point.path) for each in points]
    assert [(each.kind, each.what, each.commands) for each in found.left] == [
        ("kept database", "app_old_1", ("lastgood undo run-1",))
    ]
    assert [each.problem for each in found.timeline if each.kind == "kept"] == ["it was left by deployment run-7"]
    # A good one that is kept comes before it.
    both = diagnose(
        evidence(candidates=(), server=ServerState(clock=NOW, kept=(broken, kept(3))), live=live(contacts=100))
    )
    assert [(each.kind, each.automatic) for each in both.proposals] == [("undo", False)]
    assert both.proposals[0].name == "run-1"


@pytest.mark.parametrize("queue", [0, 3])
def test_a_queue_that_ran_empty_makes_no_point_suspect(queue: int) -> None:
    new = candidate("new.sql", 1, facts(contacts=100, deals=50, queue=0))
    old = candidate("old.sql", 5, facts(contacts=100, deals=50, queue=9))
    found = diagnose(evidence(candidates=(new, old), live=live(contacts=100, deals=50, queue=queue)))
    assert found.emergency == "older_state"
    assert found.proposals[1].name == "/store/new.sql"


def test_a_table_that_a_migration_dropped_makes_no_point_suspect() -> None:
    new = candidate("new.sql", 1, facts("20260202", contacts=100))
    found = diagnose(evidence(candidates=(new, OLD), live=live("20260202", contacts=100)))
    assert (found.emergency, found.proposals[1].name) == ("older_state", "/store/new.sql")


def test_rights_that_no_dump_brings_back_are_no_reason_to_roll_back() -> None:
    point = candidate("new.sql", 1, facts(**WHOLE))
    assert point.verdict is not None
    without = replace(point, verdict=replace(point.verdict, has_acls=False))
    found = diagnose(evidence(candidates=(without,), live=replace(live(**WHOLE), locked_out=(LockedOut("web", 0, 2),))))
    assert [(each.kind, each.automatic) for each in found.proposals] == [("by_hand", False), ("rollback", False)]
    assert found.statement == (
        "new.sql was made without privileges (--no-acl), and the live database has lost its own. Grant them again "
        "after the rollback, before the application starts."
    )


def test_the_timeline_has_kept_databases_after_the_restore_points() -> None:
    points = (candidate("new.sql", 1, facts(**WHOLE)), OLD)
    found = diagnose(evidence(candidates=points, server=ServerState(clock=NOW, kept=(kept(3),))))
    assert [(each.number, each.kind, each.name) for each in found.timeline] == [
        (1, "dump", "new.sql"),
        (2, "dump", "old.sql"),
        (3, "kept", "app_old_1"),
    ]


def test_the_loss_of_each() -> None:
    found = diagnose(
        evidence(
            candidates=(candidate("new.sql", 1, facts(contacts=90, deals=60)), candidate("odd.sql", 2, None)),
            live=live(contacts=100, deals=50),
        )
    )
    assert [(each.rows_lost, each.rows_back) for each in found.timeline] == [(10, 10), (None, None)]


def test_an_unreadable_store_is_not_reported_as_empty() -> None:
    found = diagnose(evidence(candidates=(), store_problem='cannot look for restore points in "/store": denied'))
    assert found.emergency == "no_backup"
    assert found.reasons[0].text == 'cannot look for restore points in "/store": denied'
    assert found.statement.startswith(
        'No restore point was found: cannot look for restore points in "/store": denied. '
    )


def test_a_store_of_other_databases() -> None:
    found = diagnose(evidence(candidates=(), of_others=("shop_1.sql", "shop_2.sql")))
    assert found.reasons[0].text == (
        '"/store" holds no restore point of "app"; 2 are of other databases, for example shop_1.sql'
    )


def test_indexes_that_a_rollback_has_put_off_are_not_missing() -> None:
    later = replace(live(**WHOLE), invalid=("public.i",))
    left = (Seen("run run-9 has left 1 indexes and 0 foreign keys for later", "its list in the database"),)
    found = diagnose(evidence(live=later, server=ServerState(finishing=left)))
    assert (found.emergency, found.damaged) == ("older_state", False)
    assert found.reasons[0].text == left[0].text


def test_a_sound_database_that_is_read_only_is_made_writable_first() -> None:
    server = ServerState(clock=NOW, read_only="ALTER DATABASE app RESET default_transaction_read_only")
    first, second = diagnose(evidence(server=server)).proposals
    assert (first.kind, first.title, first.detail) == (
        "leave",
        "remove what blocks the application first, see above",
        '"app" shows no damage. A rollback would remove the rows written since the restore point.',
    )
    assert second.name == "/store/new.sql"


def test_a_sound_database_without_a_valid_backup_needs_one() -> None:
    first, *_ = diagnose(evidence(candidates=(BROKEN, OLD))).proposals
    assert (first.kind, first.commands) == ("leave", ("lastgood backup",))
    assert first.detail == (
        "No damage was found. A rollback would remove the rows written since the restore point. Make a new restore "
        "point."
    )
