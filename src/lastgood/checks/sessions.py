"""The sessions in the live database, free connections and locks, and other objects that block the switch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lastgood.checklist import Finding, Passed
from lastgood.checks.subject import Subject
from lastgood.plan.unfinished import unfinished as unfinished_runs
from lastgood.postgres.holders import holders as held_by
from lastgood.postgres.pressure.capacity import OTHER_SESSIONS, limits
from lastgood.postgres.sessions import END_HINT, blocking_sessions
from lastgood.postgres.sessions import locked_tables as tables_locked
from lastgood.postgres.sessions import sessions as sessions_in
from lastgood.text.units import counted, listed

# Sessions of a run that are in the live database at once: the fence, the emergency backup, a reader.
SESSIONS_IN_LIVE = 3


def terminable(s: Subject) -> Iterator[Finding | Passed]:
    """The switch terminates every session of the live database."""
    text = blocking_sessions(s.maintenance, s.database.oid, s.database.name)
    if text:
        yield Finding(level="refusal", code="sessions_not_terminable", text=text, hint=END_HINT)
        return
    own = s.live.info.backend_pid
    sessions = [
        each for each in sessions_in(s.maintenance, s.database.oid) if each.pid != own and each.user is not None
    ]
    if not sessions:
        yield Passed(text=f'no session is connected to "{s.database.name}"', known="measured")
        return
    names = Counter(each.application_name or f'role "{each.user}"' for each in sessions).most_common(5)
    listed = ", ".join(f"{count} of {name}" for name, count in names)
    count = "1 session is" if len(sessions) == 1 else f"{len(sessions)} sessions are"
    yield Passed(text=f"{count} connected ({listed}); this role may terminate each of them")


def locked_tables(s: Subject) -> Iterator[Finding]:
    """Tables that no other session can read at this moment."""
    tables = tables_locked(s.live)
    for holder in sorted({each.holder for each in tables}):
        of_holder = [each for each in tables if each.holder == holder]
        names = listed((f'"{each.schema}"."{each.name}"' for each in of_holder), 5)
        session = f'{holder} of "{of_holder[0].user}"' if of_holder[0].user else holder
        name = f' ("{of_holder[0].application_name}")' if of_holder[0].application_name else ""
        yield Finding(
            level="caution",
            code="locked_tables",
            text=f"{session}{name} has locked {names} against readers: row counts are estimates, and the run "
            + ("terminates that session" if s.request.fence == "now" and of_holder[0].pid else "waits for it"),
            hint=f"To terminate it, run: {of_holder[0].end_command}",
            known="measured",
        )


def locks(s: Subject) -> Iterator[Finding]:
    """The capacity of the lock table: without free entries, the commands of all sessions would fail."""
    if s.request.fence != "now":
        return
    row = s.live.execute(
        "SELECT (SELECT count(*) FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p')),"
        " current_setting('max_locks_per_transaction')::int8"
        " * (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8)"
    ).fetchone()
    assert row is not None
    tables, room = int(row[0]), int(row[1])
    if tables > room // 2:
        yield Finding(
            level="refusal",
            code="too_many_tables",
            text=f"the fence needs a lock on each of {counted(tables, 'table')}, and the server has room for "
            f"{counted(room, 'lock')}",
            hint="Run the rollback with --fence at-swap, or raise max_locks_per_transaction.",
            final=True,
        )


def connections(s: Subject) -> Iterator[Finding]:
    """Connections for the run's own sessions and one worker; those of the checks are open already."""
    for limit, needed in [
        *((each, OTHER_SESSIONS + 1) for each in limits(s.maintenance)),
        *((each, SESSIONS_IN_LIVE) for each in limits(s.maintenance, s.database.name) if each.what.startswith("data")),
    ]:
        free = max(0, limit.limit - limit.used)
        if free < needed:
            yield Finding(
                level="caution",
                code="few_connections",
                text=f"{limit.what} {limit.limit} connections, {limit.used} are in use; the run needs up to "
                f"{needed} more connections and fails if none is free",
                hint="Terminate idle sessions: SELECT * FROM pg_stat_activity WHERE state = 'idle'",
                known="measured",
            )


def holders(s: Subject) -> Iterator[Finding | Passed]:
    """Prepared transactions, slots, subscriptions, publications, standbys, schedulers, workers of extensions."""
    holders = held_by(s.maintenance, s.database.name, s.live)
    for holder in holders:
        yield Finding(
            level="refusal" if holder.blocking else "caution",
            code="holder",
            text=f"{holder.kind} {holder.what}: {holder.explanation.rstrip('.')}",
            hint=holder.command,
            known="unknown" if holder.what == "unknown" else "looked up",
            final=holder.fatal,
        )
    if not holders:
        yield Passed(
            text="no prepared transaction, logical slot, subscription, publication, standby, or extension with workers"
        )


def unfinished(s: Subject) -> Iterator[Finding]:
    """Another run of this database that is unfinished or still running."""
    for each in unfinished_runs(s.maintenance, s.request.target, s.request.state):
        if each.mark.role != "shadow" or each.run == s.request.run or (each.switched and each.database is None):
            continue
        remains = f', its database "{each.database.name}" exists' if each.database is not None else ""
        abort = f"lastgood abort {each.run} removes its remains"
        yield Finding(
            level="caution",
            code="unfinished",
            text=f"run {each.run} is unfinished{remains}"
            + ("" if each.obstacle else "; it cannot be resumed after the switch of this rollback"),
            hint=f"{abort}." if each.obstacle else f"Continue it: lastgood resume {each.run}. Or discard it: {abort}.",
        )
