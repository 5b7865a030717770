"""The pause of PgBouncer's clients during the exchange of names, so that none of their queries fails.

Not a step of its own: it surrounds the swap's transaction, in rollbacks and undos, so that clients wait no longer than
that. It must not outlive this process: see ``lastgood.deadman.pgbouncer``.

PAUSE blocks new transactions and waits for open ones. If they do not end within ``pause_limit``, the switch takes place
under the pause: it terminates those few sessions, as it terminates every session without a pooler, and other clients do
not notice. Resuming first would only increase the number of failed queries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import psycopg

from lastgood import fault
from lastgood.config.tables import PgBouncer
from lastgood.context import Context
from lastgood.deadman.pgbouncer import Order, WatchedConsole, armed_switch, pause_holds
from lastgood.deadman.switch import Switch
from lastgood.events import Caution, Emit, Note
from lastgood.journal import Journal
from lastgood.plan.plan import PlannedPause, Request
from lastgood.postgres import database
from lastgood.postgres.lock import lock_live, read_nothing
from lastgood.postgres.pgbouncer import Console, ConsoleError, ConsoleState, consoles
from lastgood.postgres.pgbouncer.consoles import psql
from lastgood.postgres.server import Connection, Target
from lastgood.process.companion import NotReady
from lastgood.run.report import PauseReport

POLL_SECONDS = 0.02
# The maximum wait for a moment without a login to the server: a login during PAUSE counts as failed.
LOGIN_SECONDS = 1.0
RESUME_SECONDS = 3.0
# Set to 0 during the pause: after a login during PAUSE, clients would wait for this time after RESUME.
HASTENED = ("server_login_retry",)
# The maximum duration of the exchange, with all its tries. After that, the dead-man switch resumes the clients.
EXCHANGE_SECONDS = 60.0

_SESSIONS = """
SELECT a.pid, a.usename, a.application_name, a.state, extract(epoch FROM clock_timestamp() - a.xact_start)::float8,
       pg_catalog.pg_blocking_pids(a.pid)
FROM pg_catalog.pg_stat_activity a WHERE a.datname = %s
"""


@dataclass(slots=True)
class Pause:
    """A pause of clients: the ``databases`` of PgBouncer, whether all their transactions ended before the switch
    (``quiet``), and otherwise the open ones (``cut``), which the switch terminates. ``seconds``: from PAUSE to RESUME,
    set at the end."""

    databases: tuple[str, ...]
    quiet: bool = False
    cut: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def summary(self) -> str:
        """The pause in one line, for the detail of a stage."""
        return f"clients of PgBouncer waited up to {self.seconds * 1000:.0f} ms" if self.databases else ""

    @property
    def report(self) -> PauseReport | None:
        """The pause as data, at its end; None if no clients were paused."""
        if not self.databases:
            return None
        return PauseReport(databases=self.databases, seconds=round(self.seconds, 3), quiet=self.quiet, cut=self.cut)


@dataclass(slots=True)
class _Held:
    """One PgBouncer: a session for queries and RESUME, and one for each PAUSE, whose answer may take long."""

    state: ConsoleState
    names: tuple[str, ...]
    control: Console
    pausing: list[Console]
    settings: Mapping[str, str] = field(default_factory=dict)
    sent: bool = False
    confirmed: bool = False
    empty: bool = False
    problem: str = ""

    def logging_in(self) -> bool:
        return any(pool.logging_in for pool in self.control.pools() if pool.database in self.names)

    def quiet(self) -> bool:
        """Whether all databases are paused, without connections to the server."""
        if not self.confirmed:
            paused = {entry.name for entry in self.control.entries() if entry.paused}
            self.confirmed = paused.issuperset(self.names)
        self.empty = self.confirmed and not any(p.servers for p in self.control.pools() if p.database in self.names)
        return self.empty


@dataclass(slots=True)
class _Hold:
    """All PgBouncers of a pause."""

    held: Sequence[_Held]
    emit: Emit
    switch: Switch
    began: float = field(default_factory=time.monotonic)

    def each(self, do: Callable[[_Held], bool]) -> bool:
        """Whether ``do`` is true for all that answer. One that does not answer is reported once."""
        every = True
        for held in self.held:
            if held.problem:
                continue
            try:
                every = do(held) and every
            except ConsoleError as error:
                held.problem = str(error)
                self.emit(
                    Caution(f"{held.state.place} cannot pause clients: {error}; their queries during the switch fail")
                )
        return every

    def pause(self) -> None:
        deadline = time.monotonic() + LOGIN_SECONDS
        while not self.each(lambda held: not held.logging_in()) and time.monotonic() < deadline:
            time.sleep(0.002)  # a login takes milliseconds, and PgBouncer has no event for it

        def send(held: _Held) -> bool:
            held.sent = True
            try:
                for setting in held.settings:
                    held.control.set(setting, "0")
            except ConsoleError:
                held.settings = {}  # optional
            for session, name in zip(held.pausing, held.names, strict=True):
                session.pause(name)
            return True

        self.began = time.monotonic()
        self.each(send)

    def let_go(self) -> None:
        """Resume the clients. If that fails, the dead-man switch keeps trying."""
        done = True
        for held in self.held:
            for session in held.pausing:
                session.close()
            done = self._resume(held) and done
        if done:
            self.switch.dismiss()

    def _resume(self, held: _Held) -> bool:
        """Resume one PgBouncer; whether none of its databases is paused, or can still become paused."""
        deadline = time.monotonic() + RESUME_SECONDS
        while True:
            try:
                if held.control.broken:
                    held.control = Console(held.state.target)
                for name in held.names:
                    with suppress(ConsoleError):  # both are refused if the database is not paused or does not exist
                        if not held.empty:
                            held.control.reconnect(name)
                        held.control.resume(name)
                # Not earlier: by now the first login has begun.
                for setting, value in held.settings.items():
                    held.control.set(setting, value)
                paused = [entry.name for entry in held.control.entries() if entry.paused and entry.name in held.names]
                if not paused:
                    # A PAUSE that was sent and never confirmed may still take effect: the dead-man switch waits for it.
                    return held.confirmed or not held.sent
                why = f'"{paused[0]}" is still paused'
            except ConsoleError as error:
                why = str(error)
            if time.monotonic() > deadline:
                commands = "; ".join(psql(held.state, f'RESUME "{name}"') for name in held.names)
                self.emit(
                    Caution(
                        f"{held.state.place} could not resume its clients: {why}; a process "
                        f"of lastgood keeps trying. To resume them manually: {commands}"
                    )
                )
                return False
            time.sleep(0.1)  # PgBouncer may be restarting


@contextmanager
def paused(
    config: PgBouncer,
    live: Target,
    connection: Connection,
    context: Context,
    *,
    journal: Journal,
    fence: int | None = None,
) -> Iterator[Pause | None]:
    """Pause the clients of every PgBouncer database that leads to ``live``, for the length of a ``with`` block.

    ``connection`` is an idle session on the live database's server, outside of a transaction; ``fence`` the server
    process that blocks writers, if any. Yields None if there are no clients to pause, or if pausing failed, which is
    reported as a caution. At the end of the block, clients are resumed first, whatever the block raised. Raises
    Interrupted, or OSError if the journal cannot be written; then no client is paused.
    """
    with ExitStack() as stack:
        hold = _prepared(config, live, connection, journal, context.emit, stack)
        if hold is None:
            yield None
            return
        names = tuple(name for held in hold.held for name in held.names)
        pause = Pause(names)
        try:
            journal.write("pause begins", databases=names, switch=hold.switch.pid)
            hold.pause()
            pause.quiet = _wait(hold, config.pause_limit, connection, live.dbname, context, fence)
            if not pause.quiet:
                pause.cut = _cut(hold, connection, live.dbname)
                context.emit(Caution(_late(pause, time.monotonic() - hold.began)))
            pause.databases = tuple(name for held in hold.held if not held.problem for name in held.names)
            if all(held.confirmed for held in hold.held):
                pause_holds(hold.switch)
            fault.point("pause.holds")
            yield pause
        finally:
            hold.let_go()
            pause.seconds = time.monotonic() - hold.began
            # Clients take precedence; a failing write is reported with the next entry.
            with suppress(OSError):
                journal.write("pause over", seconds=round(pause.seconds, 3), quiet=pause.quiet, cut=pause.cut)


def _prepared(
    config: PgBouncer, live: Target, connection: Connection, journal: Journal, emit: Emit, stack: ExitStack
) -> _Hold | None:
    """Do everything that takes time or may fail before clients are paused."""
    held = []
    for state in consoles(config, live, connection) if config.admin else ():
        names = tuple(name for name, _ in _names(state))
        problem = state.problem or ("" if state.may_pause else f'"{state.user}" is not one of its admin_users')
        if problem:
            emit(Caution(f"{state.place} cannot pause clients: {problem}"))
        elif names:
            try:
                control, *pausing = [stack.enter_context(Console(state.target)) for _ in range(len(names) + 1)]
            except ConsoleError as error:
                emit(Caution(f"{state.place} cannot pause clients: {error}"))
            else:
                settings = {name: value for name in HASTENED if (value := state.settings.get(name))}
                held.append(_Held(state, names, control, pausing, settings))
    if not held:
        return None
    order = Order(
        tuple(WatchedConsole(each.state.target, each.names, each.settings) for each in held),
        config.pause_limit + EXCHANGE_SECONDS,
        journal.path,
    )
    try:
        return _Hold(held, emit, stack.enter_context(armed_switch(order)))
    except NotReady as error:
        emit(
            Caution(
                f"PgBouncer's clients are not paused: cannot start the process that resumes them if lastgood is "
                f"killed: {error}"
            )
        )
        return None


def _wait(hold: _Hold, seconds: float, connection: Connection, live: str, context: Context, fence: int | None) -> bool:
    """Wait until no transaction is open, at most ``seconds``; whether that succeeded. Transactions that wait for the
    fence cannot end before the switch, so the wait ends when only those are left."""
    deadline = hold.began + seconds
    look = time.monotonic() + 0.1
    while True:
        context.check("interrupted before the switch")
        if hold.each(_Held.quiet):
            return True
        now = time.monotonic()
        if now > deadline:
            return False
        if fence is not None and now > look:
            look = now + 0.1
            if _all_wait_for(hold, connection, live, fence):
                return False
        time.sleep(POLL_SECONDS)  # PgBouncer has no event for it


def _busy(hold: _Hold) -> set[int | None]:
    """Return the server processes that clients use; None stands for one that PgBouncer does not know."""
    found: set[int | None] = set()

    def add(held: _Held) -> bool:
        found.update(each.pid for each in held.control.busy_servers() if each.database in held.names)
        return True

    hold.each(add)
    return found


def _all_wait_for(hold: _Hold, connection: Connection, live: str, fence: int) -> bool:
    """Whether all open transactions wait for the fence, directly or behind others."""
    busy = _busy(hold)
    blockers = {row[0]: set(row[5]) for row in connection.execute(_SESSIONS, [live])}
    stuck = {fence}
    while more := {pid for pid, by in blockers.items() if pid not in stuck and by & stuck}:
        stuck |= more
    return bool(busy) and busy <= stuck


def _cut(hold: _Hold, connection: Connection, live: str) -> tuple[str, ...]:
    """Describe the open transactions."""
    busy = _busy(hold)
    found = []
    with suppress(psycopg.Error):
        for pid, user, application, state, seconds, _ in connection.execute(_SESSIONS, [live]).fetchall():
            if pid in busy:
                what = f'process {pid} of "{user}"' + (f' ("{application}")' if application else "")
                found.append(what + (f", {state} for {seconds:.0f} s" if state and seconds is not None else ""))
    return tuple(found) or tuple(f"process {pid}" for pid in sorted(busy - {None}, key=str))


def _late(pause: Pause, seconds: float) -> str:
    count = len(pause.cut)
    number = f"{count} {'transaction' if count == 1 else 'transactions'}" if count else "some transactions"
    names = f" ({'; '.join(pause.cut[:3])}{'; …' if count > 3 else ''})" if count else ""
    return (
        f"PgBouncer paused clients, but {number} did not end in {seconds:.1f} s{names}: the switch terminates them; "
        "other clients wait, and their queries do not fail"
    )


def let_go(config: PgBouncer, live: Target, connection: Connection, emit: Emit) -> tuple[str, ...]:
    """Resume the paused databases that lead to ``live``, for an unfinished run while no other run is active.
    Returns their names."""
    resumed = []
    for state in consoles(config, live, connection) if config.admin else ():
        waiting = [each.name for each in state.databases if each.paused]
        try:
            if state.problem:
                raise ConsoleError(state.problem)
            with ExitStack() as stack:
                console = stack.enter_context(Console(state.target)) if waiting else None
                for name in waiting:
                    assert console is not None
                    console.resume(name)
                    resumed.append(name)
                    emit(Note(f'"{name}" of {state.place} was paused: its clients are resumed now'))
            for name, why in state.doubtful:
                raise ConsoleError(f'"{name}": {why}')
        except ConsoleError as error:
            emit(
                Caution(
                    f"cannot verify that {state.place} resumed its clients: {error}. "
                    f"To check: {psql(state, 'SHOW DATABASES')}"
                )
            )
    return tuple(resumed)


def resume_clients_before(request: Request, emit: Emit) -> None:
    """Resume the clients that a stopped run left paused, before anything else."""
    if request.pgbouncer.admin:
        live = request.target.dbname
        with database.connect_maintenance(request.target, live) as maintenance:
            lock_live(maintenance, live, read_nothing)
            let_go(request.pgbouncer, request.target.at(live), maintenance, emit)


def planned_pauses(config: PgBouncer, states: Sequence[ConsoleState]) -> tuple[PlannedPause, ...]:
    """Return the databases whose clients a switch pauses, for the plan."""
    return tuple(
        PlannedPause(pooler=state.place, console=state.shown, database=name, mode=mode, limit=config.pause_limit)
        for state in states
        for name, mode in _names(state)
    )


def _names(state: ConsoleState) -> list[tuple[str, str]]:
    """Return the databases of a PgBouncer that are paused at the switch, with their pool modes."""
    if state.problem or not state.may_pause:
        return []
    named = [(each.name, each.mode) for each in state.databases if not each.paused]
    return named + [(name, "") for name in state.missing]
