"""From a request to a plan: choose the restore point, read it from end to end, look at the server, count the loss.

Changes nothing anywhere. The whole dump is read here, so that an incomplete or unsafe one is refused before anything is
created.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg

from lastgood import checks, loss, points
from lastgood.application import record
from lastgood.checklist import BACKUP, ITEMS, Finding, Override, check_names, checklist
from lastgood.checks import counted
from lastgood.dump.deferral import Deferrable
from lastgood.errors import NOT_REACHED, Refused, Stopped
from lastgood.events import Caution, Emit, StageDone, StageStarted
from lastgood.finishing.choice import choose
from lastgood.journal import Journal
from lastgood.members.survey import of_extensions
from lastgood.names import new_run, suffix
from lastgood.plan import Choice, Plan, PlannedPoint, PlannedStep, Prepared, Request
from lastgood.postgres import activity, clock, database
from lastgood.postgres import errors as server_errors
from lastgood.postgres.activity import Sample
from lastgood.postgres.leftover import Leftover, leftovers
from lastgood.postgres.mark import OVERRIDE, Mark, marked, read_mark, server_clock
from lastgood.postgres.server import Connection, Target
from lastgood.rebuild import expected_seconds
from lastgood.steps.pool import planned_pauses


def lock_name(run: str) -> str:
    """The name under which a run's own session shows in pg_stat_activity."""
    return f"lastgood rollback {run}"


def prepare(request: Request, emit: Emit) -> Prepared:
    """The plan of a new rollback. Raises BadPoint, Refused (no such database, cannot connect)."""
    started = time.monotonic()
    emit(StageStarted("plan", "read the restore point and look at the server"))
    live_name = request.target.dbname
    check_names(request.overrides, request.attestations, request.check.attested)
    # Before a restore point is read, which may take minutes: a wrong password, or a database that is gone, is told now.
    with database.connect_maintenance(request.target, live_name) as maintenance:
        database.describe(maintenance, live_name)
    passed_over: list[str] = []
    chosen = points.choose(
        request.store,
        name=request.choice.point,
        before=request.choice.before,
        before_migration=request.choice.before_migration,
        database=request.database or live_name,
        emit=points.overheard(emit, passed_over),
    )
    point, source, facts, summary = chosen.point, chosen.source, chosen.facts, chosen.summary
    with database.connect_maintenance(request.target, live_name) as maintenance:
        live = database.describe(maintenance, live_name)
        skew = clock.skew(maintenance)
        run = request.run or new_run(server_clock(maintenance))
        request = let_in(request, maintenance)
        with connect_live(request.target, live_name) as connection:
            # First: what we read ourselves counts as use of an index, too.
            choice = None
            sample = _sample(request, maintenance, live.oid, connection)
            if request.reopen_when == "usable":
                choice = choose(
                    connection, Deferrable.of(summary.script), replaces=True, allow_orphans=request.allow_orphans
                )
            build, backup = expected_seconds(
                maintenance, request.state, source, summary, live.size_bytes or 0, request.pace
            )
            reading = checks.Reading(
                point,
                facts,
                summary,
                chosen.lack,
                chosen.orphans,
                passed_over=tuple(passed_over),
                seconds=(build, backup),
            )
            subject = checks.Subject.of(request, maintenance, connection, live, reading)
            looked = [*checks.look(subject)]
            try:
                lost = loss.losses(connection, facts, subject.members.rows)
            except psycopg.errors.InsufficientPrivilege as error:
                lost = ()
                looked += counted.refused(live_name, error, looked)
        looked += counted.told(lost)
        if choice is not None:
            looked += [Finding(level="caution", code="deferral", text=each) for each in choice.remarks]
        plan = Plan(
            run=run,
            made_at=server_clock(maintenance),
            server=request.target.place,
            server_version=maintenance.info.parameter_status("server_version") or "",
            live=live.name,
            live_oid=live.oid,
            live_bytes=live.size_bytes or 0,
            maintenance=maintenance.info.dbname,
            shadow=database.fit_name(live.name, suffix("shadow", run)),
            kept=database.fit_name(live.name, suffix("old", run)),
            point=PlannedPoint(
                path=str(point.path),
                kind=source.kind,
                made_at=point.made_at,
                time_source=point.time_source,
                bytes=source.size,
                rows=facts.rows,
                tables=len(facts.tables),
                migration=facts.migration.version if facts.migration is not None else None,
            ),
            fence=request.fence,
            reopen_when=request.reopen_when,
            deferred=tuple(map(str, choice.division.later)) if choice is not None else (),
            keep_shadow=request.keep_shadow,
            strict=request.strict,
            allow_orphans=request.allow_orphans,
            carry_owners=not summary.has_owners,
            carry_acls=not summary.has_acls,
            expected_seconds=build,
            expected_backup_seconds=None if skips_backup(request) else backup,
            loss=lost,
            # Of the rehearsal the checklist tells: a plan is no time for it.
            findings=tuple(each for each in checks.found(looked) if each.item != "rehearsal"),
            checklist=checklist(looked, request.check.attested, request.overrides, request.attestations),
            pauses=planned_pauses(request.pgbouncer, subject.pools),
            steps=_steps(request),
        )
    seconds = time.monotonic() - started
    emit(StageDone("plan", seconds, f"{point.path.name}: {facts.said}"))
    division = choice.division if choice is not None else None
    return Prepared(
        request,
        plan,
        point,
        source,
        facts,
        summary,
        seconds,
        division,
        sample,
        skew,
        subject.to_put_back,
        of_extensions(subject.members, [each.name for each in facts.extensions]).rows,
    )


def prepare_again(request: Request, emit: Emit) -> tuple[Prepared, bool]:
    """The plan of a run that stopped, made anew from what its databases on the server say of themselves; and whether
    it has switched already."""
    live_name = request.target.dbname
    with database.connect_maintenance(request.target, live_name) as maintenance:
        name = unfinished_run(maintenance, request)
        mark = _mark_of(maintenance, name, live_name) or _from_journal(request, name)
        assert mark is not None  # unfinished_run looked it up
        _refuse_another_live(maintenance, live_name, mark)
    if mark.options.get("hooks") == "yes" and not request.application.starts:
        emit(
            Caution(
                f'the run stopped the application by hooks of "{mark.host}", and no hook here starts it: when the run '
                "is done, start it there with lastgood maintenance off, or by hand"
            )
        )
    path = Path(mark.point)
    if not path.exists():
        raise Stopped(
            f'cannot resume run "{name}": the restore point "{mark.point}" is not on this machine',
            hint=f"Run lastgood resume on {mark.host}, copy the file here, or run lastgood abort {name}",
        )
    again = replace(
        request,
        run=name,
        choice=Choice(point=mark.point),
        fence="at-swap" if mark.options.get("fence") == "at-swap" else "now",
        reopen_when="usable" if mark.options.get("reopen_when") == "usable" else "full",
        overrides=tuple(_overrides(mark)),
        strict="strict" in mark.options,
        allow_orphans="allow_orphans" in mark.options,
    )
    prepared = prepare(again, emit)
    plan = prepared.plan.model_copy(update={"live_oid": mark.live_oid})
    return replace(prepared, plan=plan), mark.role == "kept"


def _refuse_another_live(maintenance: Connection, live_name: str, mark: Mark) -> None:
    """A run that has not switched yet, and whose live database was exchanged by another run meanwhile, can't go on:
    told now, and not after everything was built and proved again."""
    now = database.find(maintenance, live_name)
    ours = now is not None and (mark_in := read_mark(now.comment)) is not None and mark_in.run == mark.run
    if mark.role == "shadow" and now is not None and now.oid != mark.live_oid and not ours:
        raise Refused(
            f'cannot resume run "{mark.run}": "{live_name}" is another database now than when it began',
            hint=f"It was exchanged since by somebody. Run: lastgood abort {mark.run} to remove what it left.",
            state=f'"{live_name}" is open.',
        )


def _overrides(mark: Mark) -> Iterator[Override]:
    """What was overridden when the run began, as its databases tell."""
    for name, reason in mark.options.items():
        item = name.removeprefix(OVERRIDE)
        if name.startswith(OVERRIDE) and item in {each.name for each in ITEMS}:
            yield Override(item=item, reason=reason, by=mark.user, at=mark.started)


def unfinished_run(maintenance: Connection, request: Request) -> str:
    """The run that ``request`` means: the one it names, the only one with a shadow, or the one that stopped the
    application. Raises Refused."""
    live = request.target.dbname
    shadows = {mark.run: mark for _, mark in marked(maintenance) if mark.role == "shadow" and mark.live == live}
    if request.run is not None:
        if _mark_of(maintenance, request.run, live) is None and _from_journal(request, request.run) is None:
            raise Refused(
                f'cannot find run "{request.run}": the server has no database of it',
                hint="Look at lastgood status; a run that was walked back leaves nothing to resume or abort.",
                state=f'"{live}" is open.',
            )
        return request.run
    stopped = record.read(request.state, request.target)
    if not shadows and stopped is not None and _from_journal(request, stopped.by) is not None:
        return stopped.by  # it stopped the application, and had no shadow yet, or none any more
    if not shadows:
        raise Refused(
            f'cannot resume or abort: no run of "{live}" is unfinished',
            hint="There is nothing to do. Look at lastgood status.",
            state=NOT_REACHED,
        )
    if len(shadows) != 1:
        raise Refused(
            f'cannot tell which run of "{live}" is meant: unfinished are {", ".join(sorted(shadows))}',
            hint="Name it: lastgood resume RUN, or lastgood abort RUN.",
            state=NOT_REACHED,
        )
    return next(iter(shadows))


def leftover_of(maintenance: Connection, request: Request) -> Leftover | None:
    """The unmarked shadow of the run that ``request`` names, or the only one; None where marks tell what is meant."""
    live = request.target.dbname
    if any(
        mark.live == live and mark.role == "shadow" and request.run in (None, mark.run)
        for _, mark in marked(maintenance)
    ):
        return None
    found = [each for each in leftovers(maintenance, live) if request.run is None or request.run.endswith(each.number)]
    return found[0] if len(found) == 1 else None


def run_of(left: Leftover, state: Path) -> str:
    """The name of the run that left it, where this machine has its journal; otherwise the end of that name."""
    return next((each.run for each in Journal.all(state) if each.run.endswith("-" + left.number)), left.number)


def skips_backup(request: Request) -> bool:
    """Whether an override leaves the emergency backup out."""
    return any(each.item == BACKUP for each in request.overrides)


def _mark_of(maintenance: Connection, run: str, live: str) -> Mark | None:
    for _, mark in marked(maintenance):
        if mark.run == run and mark.live == live:
            return mark
    return None


def _from_journal(request: Request, run: str) -> Mark | None:
    """What the mark of a run would say that had stopped the application and made no database yet. Only the machine that
    has its journal knows of it."""
    stopped = record.read(request.state, request.target)
    journal = Journal.find(request.state, run)
    if journal is None or stopped is None or stopped.by != run:
        return None
    plans = [entry["plan"] for entry in journal.replay() if entry["event"] in ("begun", "resumed") and "plan" in entry]
    if not plans:
        return None
    plan = Plan.model_validate(plans[-1])
    consent = {"strict": plan.strict, "allow_orphans": plan.allow_orphans}
    return Mark(
        role="shadow",
        run=run,
        live=plan.live,
        live_oid=plan.live_oid,
        point=plan.point.path,
        host=stopped.host,
        pid=0,
        user=stopped.user,
        started=stopped.since,
        options={
            "fence": plan.fence,
            "reopen_when": plan.reopen_when,
            **{name: "yes" for name, given in consent.items() if given},
            **{OVERRIDE + each.item: each.reason for each in plan.checklist.overrides},
        },
    )


def _sample(request: Request, maintenance: Connection, oid: int, inside: Connection) -> Sample | None:
    if request.application.watch is None:
        return None
    try:
        return activity.sample(maintenance, oid, inside)
    except psycopg.Error:
        return None  # the watch will say that nothing was known before


def let_in(request: Request, maintenance: Connection) -> Request:
    """The request, with event triggers off where one that fires on login would keep us out of the live database."""
    row = maintenance.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
    if row is None or not row[0] or maintenance.info.server_version < 170000:
        return request
    try:
        request.target.connect().close()
    except psycopg.Error:
        return replace(request, target=request.target.at(request.target.dbname).without_event_triggers())
    return request


def connect_live(target: Target, dbname: str) -> Connection:
    """A connection to the live database itself. Raises Failed."""
    try:
        return target.at(dbname).connect()
    except psycopg.Error as error:
        raise server_errors.failed(error, f'connect to "{dbname}"', context="connect", state=NOT_REACHED) from error


def _steps(request: Request) -> tuple[PlannedStep, ...]:
    now, application = request.fence == "now", request.application
    watch = application.watch
    stop = PlannedStep(
        name="stop",
        title="Stop the application" if application.hooks.stop else "Turn maintenance mode on",
        effect="users notice from here on" if now else "as late as can be: users notice from here on",
    )
    fence = PlannedStep(
        name="fence",
        title="Keep writers out" if now else "Leave writers alone until the switch",
        effect="writers wait, readers go on" if now else "what they write until then stays in the kept database",
    )
    start = PlannedStep(
        name="start",
        title="Start the application" if application.hooks.start else "Turn maintenance mode off",
        effect="users are back",
    )
    asked = [
        *(["its health is asked"] if application.health is not None else []),
        *(["the smoke command is run"] if application.hooks.smoke is not None else []),
    ]
    check = PlannedStep(
        name="checks",
        title="Ask the application whether it works",
        effect=f"{' and '.join(asked)}; when it fails, {_ON_FAILURE[application.on_failure]}",
    )
    look = PlannedStep(
        name="watch",
        title=f"Watch the server for {watch.length:g} s" if watch is not None else "",
        effect="against its figures of before; nobody notices, and it may be interrupted",
    )
    later = PlannedStep(
        name="finish", title="Finish what could wait", effect="the application works meanwhile; undo stays possible"
    )
    return (
        *([stop] if application.stops and now else []),
        fence,
        PlannedStep(name="emergency", title="Back up the live database as it is now", effect="beside the next step")
        if not skips_backup(request)
        else PlannedStep(name="emergency", title="Make no emergency backup", effect="as the override says"),
        PlannedStep(name="build", title="Build the restored database beside the live one", effect="nobody notices"),
        PlannedStep(name="carry_over", title="Carry over owners, grants and settings", effect="nobody notices"),
        PlannedStep(name="prove", title="Prove that it equals the restore point", effect="or stop here"),
        *([stop] if application.stops and not now else []),
        PlannedStep(
            name="swap",
            title="Switch the names",
            effect="all sessions are ended once, and reconnect"
            + ("; PgBouncer holds its clients back meanwhile" if request.pgbouncer.admin else ""),
        ),
        PlannedStep(name="reopen", title="Verify that the live name answers", effect="undo stays possible"),
        *([start] if application.starts else []),
        *([check] if application.checked else []),
        *([look] if watch is not None and watch.length else []),
        *([later] if request.reopen_when == "usable" else []),
    )


_ON_FAILURE = {
    "undo": "the switch is undone",
    "ask": "you are asked whether to undo the switch",
    "keep": "the restored database stays, and undo is possible",
}
