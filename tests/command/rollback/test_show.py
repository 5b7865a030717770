"""Plans, reports and states as the operator reads them at 80 columns: what is unusual must be seen."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from lastgood.command.facts import show as facts
from lastgood.command.points import show as points
from lastgood.command.prune import show as prune
from lastgood.command.prune.plan import PruneCandidate, PrunePlan
from lastgood.command.rollback import show as report
from lastgood.command.rollback import show_plan
from lastgood.command.status import show as status
from lastgood.facts import Facts, FactsDifference
from lastgood.facts.compare import FactsComparison
from lastgood.load.deferred.work import Finished
from lastgood.load.repairs import Repaired
from lastgood.plan.loss import OutsideReference, Revival, TableLoss
from lastgood.plan.plan import Finding, Plan, PlannedPoint, PlannedStep
from lastgood.points import PointVerdict, RestorePoint
from lastgood.postgres.table_locks import FenceStatus
from lastgood.run.report import (
    CarriedOverReport,
    FenceReport,
    FinishReport,
    ProvedTable,
    Report,
    Seconds,
    SkippedCommands,
)
from lastgood.screen.screen import Screen
from lastgood.status import Finishing, LeftoverStatus, LiveStatus, OurDatabase, Status, UnfinishedRun
from lastgood.text import units

RUN = "20251104-143000-9f3c1a70"
WHEN = datetime(2025, 11, 4, 14, 30, tzinfo=UTC)
POINT = PlannedPoint(
    path="backups/crm_20251104_143000.sql",
    kind="plain",
    made_at=WHEN,
    time_source="manifest",
    bytes=240 << 20,
    rows=1_234_567,
    tables=12,
)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> tuple[Screen, io.StringIO]:
    """A screen of 80 columns and what it shows. Distances in time depend on the clock, and are fixed."""
    monkeypatch.setattr(units, "ago", lambda when: "9 hours ago")
    stream = io.StringIO()
    return Screen(stdout=stream, stderr=io.StringIO(), width=80), stream


def a_plan(*, loss: tuple[TableLoss, ...] = (), findings: tuple[Finding, ...] = ()) -> Plan:
    return Plan(
        run=RUN,
        made_at=WHEN + timedelta(hours=9, minutes=12),
        server="host=db.example.org",
        server_version="18.6",
        live="crm",
        live_oid=5,
        live_bytes=812 << 20,
        maintenance="postgres",
        shadow="crm_shadow_9f3c1a70",
        kept="crm_old_9f3c1a70",
        point=POINT,
        fence="at-swap",
        expected_between=(8.0, 64.0),
        keep_shadow=False,
        carry_owners=True,
        carry_acls=True,
        loss=loss,
        findings=findings,
        steps=(
            PlannedStep(
                name="swap", title="Switch the names", effect="all sessions are terminated once; clients reconnect"
            ),
        ),
    )


def loss(
    name: str,
    live: int | None,
    point: int | None,
    since: int | None = 0,
    by: str | None = None,
    content: Literal["equal", "changed", "not compared"] | None = None,
    why: str = "",
    rows: tuple[int | None, int | None, int | None] = (None, None, None),
) -> TableLoss:
    return TableLoss(
        schema_name="public",
        name=name,
        live_rows=live,
        point_rows=point,
        written_since=since,
        by=by,
        content=content,
        why=why,
        lost=rows[0],
        returns=rows[1],
        changed=rows[2],
    )


def a_report(tables: tuple[ProvedTable, ...], *, not_compared: tuple[str, ...] = ()) -> Report:
    return Report(
        run=RUN,
        point=POINT,
        live="crm",
        kept="crm_old_9f3c1a70",
        shadow="crm_shadow_9f3c1a70",
        tables=tables,
        carried_over=CarriedOverReport(settings=3, privileges=27, roles_tried=("crm_app",), remarks=("look at x",)),
        fence=FenceReport(kind="table locks", proof="SHARE locks on 12 of 12 tables", writes_after=None),
        seconds=Seconds(
            plan=1,
            steps={"emergency": 20, "build": 30, "prove": 10, "swap": 0.1},
            write_outage=41.2,
            read_outage=0.018,
            total=43,
        ),
        emergency_backup="backups/crm_emergency.sql",
        skipped=(
            SkippedCommands(what="CREATE DATABASE", why="it names a database", line=12, count=1),
            SkippedCommands(what="drop", why="a new database has nothing to drop", line=22, count=66),
            SkippedCommands(what="drop on public.tags", why="a new database has nothing to drop", line=91, count=1),
        ),
        repaired=(Repaired(what="extension citext", why="its default version was installed", line=30),),
        not_compared=not_compared,
        undo_command=f"lastgood undo {RUN}",
    )


def test_a_whole_plan(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    findings = (
        Finding(level="note", code="n", text="nothing to worry about"),
        Finding(
            level="refusal", code="r", text='role "app" may not create a database', hint="As a superuser: ALTER ROLE"
        ),
        Finding(level="caution", code="c", text="look here"),
    )
    losses = (
        loss("deals", 300, 500),
        loss("contacts", 5000, 400, 120, "created_at", "changed", "time limit of 1 min reached"),
        loss("scores", 12, None, None, rows=(12, 0, 0)),
        loss("tags", 5, 5, content="equal"),
        loss("prices", 70, 70, content="changed", rows=(20, 20, 50)),
        loss("queue", 2, 2, content="changed", rows=(1, 1, None)),
        loss("events", 9, 9, content="not compared", why="time limit of 10 s reached"),
        loss("lost", None, 7, None, rows=(0, 7, 0)),
    )
    show_plan.show(screen, a_plan(loss=losses, findings=findings))
    assert stream.getvalue() == (
        'Plan: roll back "crm" to crm_20251104_143000.sql\n'
        "\n"
        '  Live database   "crm", 812 MB, PostgreSQL 18.6 (host=db.example.org)\n'
        "  Restore point   backups/crm_20251104_143000.sql\n"
        "                  made 2025-11-04 14:30:00 UTC (9 hours ago; time from its\n"
        "                  manifest)\n"
        "                  plain, 240 MB, 12 tables, 1,234,567 rows\n"
        '  New database    "crm_shadow_9f3c1a70"\n'
        '  Kept            the current "crm" remains on the server as "crm_old_9f3c1a70";\n'
        "                  nothing is deleted\n"
        "  Writes blocked  only during the switch; rows written until then are in the\n"
        "                  kept database\n"
        "  Expected        no estimate yet: no large load was measured on this server; by\n"
        "                  the size, between 8 s and 1 min 5 s\n"
        "\n"
        "What will be done\n"
        "   1  Switch the names: all sessions are terminated once; clients reconnect\n"
        "\n"
        'Changes to "crm"\n'
        "  table            rows now  restored     lost  returns  changed\n"
        "  public.contacts     5,000       400  ≥ 4,600        ?        ?\n"
        "  public.deals          300       500        ?    ≥ 200        ?\n"
        "  public.prices          70        70       20       20       50\n"
        "  public.scores          12      none       12        0        0\n"
        "  public.lost          none         7        0        7        0\n"
        "  public.queue            2         2        1        1   no key\n"
        "  1 other table equals the restore point in every row.\n"
        "  Compared by row count only: public.events (time limit of 10 s reached). Rows\n"
        "  changed in place are not shown here, but are reverted.\n"
        "  Rows not counted: public.contacts (time limit of 1 min reached).\n"
        '  All lost rows remain in "crm_old_9f3c1a70" and in the emergency backup.\n'
        "\n"
        "Findings\n"
        '  REFUSED role "app" may not create a database\n'
        "          As a superuser: ALTER ROLE\n"
        "  caution look here\n"
        "  note    nothing to worry about\n"
        "\n"
        "Goes back 9 h 12 min (to 14:30 UTC) · loses 4,633 rows, changes 50, returns 228,\n"
        "and more: not all rows were compared · writers wait for the switch only\n"
        "Nothing was changed yet.\n"
    )


def test_a_plan_without_a_difference_counts_equal_tables(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    show_plan.show(screen, a_plan(loss=(loss("tags", 5, 5, content="equal"), loss("notes", 2, 2, content="equal"))))
    assert "  2 tables equal the restore point in every row.\n" in stream.getvalue()


def test_a_plan_that_compared_no_content_claims_nothing_of_it(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    names = [f"t{number}" for number in range(7)]
    why = "content comparison is turned off"
    show_plan.show(screen, a_plan(loss=tuple(loss(name, 5, 5, content="not compared", why=why) for name in names)))
    assert (
        "  Compared by row count only: public.t0, public.t1, public.t2, public.t3,\n"
        "  public.t4 and 2 more tables (content comparison is turned off). Rows changed\n"
        "  in place are not shown here, but are reverted.\n"
    ) in stream.getvalue()
    assert "equal" not in stream.getvalue()


def test_what_comes_back_and_what_others_know_has_its_own_part(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    back = (
        Revival(kind="schedule", what="cron.job", returns=2, changed=1),
        Revival(kind="person", what="public.users", returns=1_200, changed=0),
        Revival(kind="access", what="public.sessions"),
        *(Revival(kind="grant", what=f"SELECT on table public.t{n} to audit") for n in range(7)),
    )
    known = (
        OutsideReference(table="public.payments", columns=("stripe_id", "payment_intent"), rows=173),
        OutsideReference(table="public.mails", columns=("message_id",), rows=None),
    )
    plan = a_plan(loss=(loss("payments", 200, 27, rows=(173, 0, 0)),))
    show_plan.show(screen, plan.model_copy(update={"revivals": back, "outside": known, "fence": "now"}))
    text = stream.getvalue()
    assert text[text.index("Comes back") :] == (
        "Comes back to life\n"
        "  People who were deleted since return; delete those again who asked for it:\n"
        "    public.users (1,200 return).\n"
        "  Sessions, tokens and rights of users that were ended since are valid again:\n"
        "    public.sessions (not counted).\n"
        "  Jobs that were removed or changed since run again as before: cron.job (2\n"
        "    return, 1 change back).\n"
        "  Grants that were revoked since are in force again: SELECT on table public.t0\n"
        "    to audit; SELECT on table public.t1 to audit; SELECT on table public.t2 to\n"
        "    audit; SELECT on table public.t3 to audit; SELECT on table public.t4 to\n"
        "    audit and 2 more.\n"
        "\n"
        "The outside world knows these\n"
        "  173 rows of public.payments, by stripe_id, payment_intent\n"
        "  rows (not counted) of public.mails, by message_id\n"
        "  Other systems keep what they recorded for these rows. To see the rows:\n"
        "    lastgood diff backups/crm_20251104_143000.sql --rows --table public.payments\n"
        "\n"
        "Goes back 9 h 12 min (to 14:30 UTC) · loses 173 rows · writers wait between 8 s\n"
        "and 1 min 5 s (a guess)\n"
        "Nothing was changed yet.\n"
    )


def test_a_long_name_stays_whole_and_columns_go(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    show_plan.show(screen, a_plan(loss=(loss("n" * 42, 12, 10, content="changed", rows=(2, 0, 40)),)))
    lines = stream.getvalue().splitlines()
    assert lines[lines.index('Changes to "crm"') + 1 :][:2] == [
        f"  {'table':49}  lost  returns  changed",
        f"  public.{'n' * 42}     2        0       40",
    ]


def test_losses_have_a_colour_beside_the_words() -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    def shown_with(*, no_color: bool) -> str:
        stream = Tty()
        plan = a_plan(loss=(loss("prices", 70, 60, content="changed", rows=(10, 0, 50)),))
        show_plan.show(Screen(stdout=stream, stderr=io.StringIO(), width=80, no_color=no_color), plan)
        return stream.getvalue()

    text = shown_with(no_color=False)
    assert "\x1b[31m  10" in text or "\x1b[31m10" in text
    assert "\x1b[1;31mGoes back" in text
    assert "\x1b[3" not in shown_with(no_color=True)


def test_a_long_plan_counts_the_omitted_tables(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    show_plan.show(screen, a_plan(loss=tuple(loss(f"t{n}", n, n + 1) for n in range(35))))
    assert "  and 5 more tables; --json lists all of them\n" in stream.getvalue()


def test_a_whole_report(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    tables = (
        ProvedTable(schema_name="public", name="contacts", rows=400, digest="abcdef012345" + "0" * 20, equal=True),
        ProvedTable(schema_name="public", name="deals", rows=500, digest=None, equal=None),
    )
    report.show(screen, a_report(tables, not_compared=("The content of deals was not compared.",)))
    assert stream.getvalue() == (
        "\n"
        "Proof\n"
        "  table            rows  compared            digest        verdict\n"
        "  public.deals      500  number of rows                    same number of rows\n"
        "  public.contacts   400  digest of all rows  abcdef012345  equal\n"
        "  not compared: The content of deals was not compared.\n"
        "\n"
        "Please review\n"
        "  - look at x\n"
        "  - repaired extension citext (line 30): its default version was installed\n"
        "  - left out CREATE DATABASE (line 12): it names a database\n"
        "  - left out 67 commands (the first in line 22): a new database has nothing to\n"
        "    drop\n"
        "\n"
        "What happened\n"
        f"  Run                       {RUN}\n"
        "  Read outage               18 ms\n"
        "  Write outage              41 s\n"
        "  Total                     43 s\n"
        "  Writes blocked            SHARE locks on 12 of 12 tables\n"
        "  Writes during the run     unknown\n"
        "  Carried over              3 settings, 27 owners and grants\n"
        "  Read access verified for  crm_app\n"
        '  Kept                      the previous database, as "crm_old_9f3c1a70", closed\n'
        "                            to connections\n"
        "  To inspect it             lastgood facts crm_old_9f3c1a70\n"
        '  With psql                 ALTER DATABASE "crm_old_9f3c1a70" ALLOW_CONNECTIONS\n'
        "                            true; and false again afterwards\n"
        "  Emergency backup          backups/crm_emergency.sql\n"
        "  Checklist                 GO\n"
        "\n"
        'Done: "crm" was rolled back to crm_20251104_143000.sql.\n'
        "  Proved: 1 of 2 tables with 900 rows equal the restore point in every row; of 1\n"
        "  only the number of rows could be compared.\n"
        "\n"
        f"To undo it: lastgood undo {RUN}\n"
    )


def a_status(*, working: str = "", is_open: bool = True, unfinished: bool = False, kept: bool = False) -> Status:
    run = UnfinishedRun(
        run=RUN,
        live="crm",
        shadow="crm_shadow_9f3c1a70",
        stage="build",
        host="ops1",
        user="ann",
        started=WHEN,
        working=working,
        commands=() if working else (f"lastgood resume {RUN}", f"lastgood abort {RUN}"),
    )
    database = OurDatabase(
        name="crm_old_1",
        oid=7,
        role="kept",
        run=RUN,
        live="crm",
        bytes=None,
        made_at=WHEN,
        host="ops1",
        user="ann",
        point="x.sql",
        stage="",
        origin=f"was live until rollback {RUN}",
        undo_command=f"lastgood undo {RUN}",
    )
    return Status(
        server_version="18.6",
        live=LiveStatus(name="crm", oid=5, bytes=812 << 20, open=is_open, sessions=1),
        working=working,
        fence=FenceStatus(pid=4711, application="lastgood fence x", tables=12, since=WHEN) if working else None,
        shadows=(),
        kept=(database,) if kept else (),
        unfinished=(run,) if unfinished else (),
    )


def test_a_run_that_stopped_is_shown_with_what_to_do(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    status.show(screen, a_status(unfinished=True, kept=True))
    assert stream.getvalue() == (
        '"crm" is open: 812 MB, 1 session, PostgreSQL 18.6\n'
        f"Next: lastgood resume {RUN}\n"
        "\n"
        "Unfinished runs\n"
        f"  {RUN}, stage build\n"
        '    building "crm_shadow_9f3c1a70", started 2025-11-04 14:30:00 UTC (9 hours\n'
        "    ago) by ann on ops1\n"
        f"    lastgood resume {RUN}\n"
        f"    lastgood abort {RUN}\n"
        "\n"
        "Kept databases, newest first: each can become live again\n"
        '  "crm_old_1"\n'
        f"    was live until rollback {RUN}, 2025-11-04 14:30:00 UTC (9\n"
        "    hours ago), by ann on ops1\n"
        f"    lastgood undo {RUN}\n"
        "    To show its contents: lastgood facts crm_old_1\n"
    )


def test_what_a_killed_run_left_is_shown_with_the_way_to_remove_it(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    name = "crm_shadow_9f3c1a70"
    left = LeftoverStatus(name=name, oid=9, bytes=8 << 20, command=f"lastgood prune {name}")
    status.show(screen, a_status().model_copy(update={"leftovers": (left,)}))
    assert stream.getvalue() == (
        '"crm" is open: 812 MB, 1 session, PostgreSQL 18.6\n'
        f"Next: lastgood prune {name}\n"
        "\n"
        "Leftovers of a run that was killed before it could mark them\n"
        '  "crm_shadow_9f3c1a70", 8.0 MB: closed. To remove it if it is empty:\n'
        "    lastgood prune crm_shadow_9f3c1a70\n"
    )


def test_a_leftover_has_no_date(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    left = PruneCandidate(
        kind="leftover", name="crm_shadow_1", oid=9, made_at=None, bytes=8 << 20, remove=True, why="named"
    )
    prune.show(screen, PrunePlan(live="crm", candidates=(left,)))
    assert stream.getvalue() == (
        "Would remove 1 item (8.0 MB) permanently.\n"
        "\n"
        "          name          what      made    size  why\n"
        "  remove  crm_shadow_1  leftover        8.0 MB  named\n"
    )


def test_a_run_at_work_is_left_alone(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    status.show(screen, a_status(unfinished=True, working=f"lastgood rollback {RUN}", is_open=False))
    text = stream.getvalue()
    assert text.startswith(
        '"crm" is CLOSED to new connections: 812 MB, 1 session, PostgreSQL 18.6\n'
        f"  Run in progress: lastgood rollback {RUN}\n"
        "  Writes are blocked since 2025-11-04 14:30:00 UTC: session 4711 (lastgood fence\n"
        "  x) holds locks on 12 tables. They resume when it ends.\n"
    )
    assert "    in progress: wait, or interrupt it on its host\n" in text
    assert "lastgood abort" not in text


def test_damaged_points_and_verdicts(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    point = RestorePoint(
        path=Path("backups/a.sql"), made_at=WHEN, time_source="name", size=7, problem="cannot read its manifest"
    )
    points.show_list(screen, Path("backups"), [point])
    points.show_verdicts(screen, [(point, PointVerdict("corrupt", "cannot use it: line 7", "Choose another."))])
    assert stream.getvalue() == (
        "  restore point  made                    size  rows  known\n"
        "  a.sql          2025-11-04 14:30:00  7 bytes        DAMAGED, see below\n"
        "\n"
        "DAMAGED a.sql: cannot read its manifest\n"
        "1 restore point in backups. To verify them: lastgood points verify\n"
        "corrupt: a.sql\n"
        "  cannot use it: line 7\n"
        "  Choose another.\n"
        "0 of 1 restore point valid.\n"
    )


def test_a_comparison_shows_each_difference(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    difference = FactsDifference(kind="rows", what="public.deals", expected="2 rows", found="0 rows")
    comparison = FactsComparison(differences=(difference,), tables=(), not_compared=("Definitions were not compared.",))
    facts.show_comparison(screen, comparison, "a.sql", "the live database")
    assert stream.getvalue() == (
        "1 difference between a.sql (expected) and the live database (found)\n"
        "\n"
        "  what          expected  found\n"
        "  public.deals  2 rows    0 rows\n"
        "  not compared: Definitions were not compared.\n"
    )


def test_facts_of_an_empty_database(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    facts.show(screen, Facts(origin="database", database="crm"))
    assert stream.getvalue().splitlines()[0] == '0 rows in 0 tables of "crm"'


def test_a_prune_shows_what_goes_first(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown

    def candidate(name: str, remove: bool, why: str) -> PruneCandidate:
        return PruneCandidate(kind="restore point", name=name, made_at=WHEN, bytes=1 << 20, remove=remove, why=why)

    found = (candidate("new.sql", False, "among the 1 newest"), candidate("old.sql", True, "beyond the 1 newest"))
    prune.show(screen, PrunePlan(live="crm", candidates=found))
    assert stream.getvalue() == (
        "Would remove 1 item (1.0 MB) permanently. 1 item (1.0 MB) stays: 1 (among the 1\n"
        "newest).\n"
        "\n"
        "          name     what           made           size  why\n"
        "  remove  old.sql  restore point  9 hours ago  1.0 MB  beyond the 1 newest\n"
        "  keep    new.sql  restore point  9 hours ago  1.0 MB  among the 1 newest\n"
    )


def test_a_plan_lists_the_deferred_work(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    later = ("index public.a_b", "index public.c_d", "foreign key k on public.t")
    show_plan.show(screen, a_plan().model_copy(update={"reopen_when": "usable", "deferred": later}))
    assert (
        "  Deferred        2 unused indexes, the server's validation of 1 foreign key\n"
        "                  (verified before), statistics of small tables\n"
    ) in stream.getvalue()


def test_what_is_not_finished_is_shown_with_who_is_at_it(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    rest = Finishing(
        run=RUN,
        tasks=12,
        left=4,
        indexes_left=1,
        foreign_keys_left=3,
        working=f'"lastgood finish {RUN}", as "ann", server process 4711',
        doing="building index: scanning table, 45 %",
        commands=(),
    )
    stopped = rest.model_copy(update={"working": "", "doing": "", "commands": (f"lastgood resume {RUN}",)})
    status.show(screen, a_status().model_copy(update={"finishing": (rest, stopped)}))
    assert stream.getvalue() == (
        '"crm" is open: 812 MB, 1 session, PostgreSQL 18.6\n'
        f"Next: lastgood resume {RUN}\n"
        "\n"
        "In service, but not finished\n"
        f"  {RUN}: 8 of 12 tasks done; left: 1 index to build, 3\n"
        "    foreign keys to validate\n"
        f'    in progress: "lastgood finish {RUN}", as "ann", server\n'
        "    process 4711 (building index: scanning table, 45 %)\n"
        f"  {RUN}: 8 of 12 tasks done; left: 1 index to build, 3\n"
        "    foreign keys to validate\n"
        f"    lastgood resume {RUN}\n"
    )


FINISHED = Finished(indexes=1, foreign_keys=9, analyzed=40, gone=("index public.a_b",))


def test_what_was_finished_stands_in_every_report(shown: tuple[Screen, io.StringIO]) -> None:
    screen, stream = shown
    report.show(screen, a_report(()).model_copy(update={"finished": FINISHED}))
    output = " ".join(stream.getvalue().split())
    assert "Deferred work 1 index built, 9 foreign keys validated, 40 tables analyzed; dropped meanwhile: " in output
    stream.truncate(0)
    stream.seek(0)
    report.show_finish(screen, FinishReport(run=RUN, live="crm", finished=FINISHED, seconds=61.2))
    assert stream.getvalue() == (
        'Done: "crm" is complete.\n'
        f"  Run       {RUN}\n"
        "  Finished  1 index built, 9 foreign keys validated, 40 tables analyzed; dropped\n"
        "            meanwhile: index public.a_b\n"
        "  Total     1 min 1 s\n"
    )
