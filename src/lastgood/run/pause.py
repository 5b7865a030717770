"""Holding PgBouncer's clients back while names are exchanged, so that no query of theirs fails.

Not a step of its own: clients wait no longer than the one transaction takes, so it is done around that, in a rollback
and in an undo alike. What must never happen is that it outlives us: see ``lastgood.deadman.pgbouncer``.

PAUSE lets no new transaction begin and waits for those under way. When they don't end within ``pause_limit``, the
switch takes place all the same, and *under the pause*: it ends those few, as it ends every session where there is no
pooler, and nobody else notices. To take the pause back first would only add to those that lose a query.
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
from lastgood.deadman.pgbouncer import Guardian, Order, Watched, standing_by
from lastgood.events import Caution, Emit, Note
from lastgood.journal import Journal
from lastgood.plan.plan import PlannedPause, Request
from lastgood.postgres import database
from lastgood.postgres.lock import lock_live, nothing
from lastgood.postgres.pgbouncer import Console, ConsoleError, ConsoleState, consoles
from lastgood.postgres.pgbouncer.look import psql
from lastgood.postgres.server import Connection, Target
from lastgood.process.companion import NotReady
from lastgood.run.report import PauseReport

POLL_SECONDS = 0.02
# How long a moment without a login to the server is waited for: a login that PAUSE meets counts as failed.
LOGIN_SECONDS = 1.0
RESUME_SECONDS = 3.0
# Set to 0 for the moment: a login that PAUSE met all the same would keep clients waiting for so long after RESUME.
HASTENED = ("server_login_retry",)
# What the exchange takes at the very most, with all its tries; longer, and the guardian takes us for stuck.
EXCHANGE_SECONDS = 60.0

_SESSIONS = """
SELECT a.pid, a.usename, a.application_name, a.state, extract(epoch FROM clock_timestamp() - a.xact_start)::float8,
       pg_catalog.pg_blocking_pids(a.pid)
FROM pg_catalog.pg_stat_activity a WHERE a.datname = %s
"""


@dataclass(slots=True)
class Pause:
    """How clients are held back: of which ``databases`` of PgBouncer, whether all their transactions had ended before
    the switch, and if not, whose had not (``cut``: the switch ends them). ``seconds``: from PAUSE to RESUME, known when
    it is over."""

    databases: tuple[str, ...]
    quiet: bool = False
    cut: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def said(self) -> str:
        """For the detail of a stage."""
        return f"clients of PgBouncer waited up to {self.seconds * 1000:.0f} ms" if self.databases else ""

    @property
    def report(self) -> PauseReport | None:
        """As data, when it is over; None where nobody was held back."""
        if not self.databases:
            return None
        return PauseReport(databases=self.databases, seconds=round(self.seconds, 3), quiet=self.quiet, cut=self.cut)


@dataclass(slots=True)
class _Held:
    """One PgBouncer: a session for questions and RESUME, and one for each PAUSE, which may not answer for long."""

    state: ConsoleState
    names: tuple[str, ...]
    control: Console
    pausing: list[Console]
    settings: Mapping[str, str] = field(default_factory=dict)
    sent: bool = False
    confirmed: bool = False
    empty: bool = False
    trouble: str = ""

    def logging_in(self) -> bool:
        return any(pool.logging_in for pool in self.control.pools() if pool.database in self.names)

    def quiet(self) -> bool:
        """Whether all are paused, and none has a connection to the server any more."""
        if not self.confirmed:
            paused = {entry.name for entry in self.control.entries() if entry.paused}
            self.confirmed = paused.issuperset(self.names)
        self.empty = self.confirmed and not any(p.servers for p in self.control.pools() if p.database in self.names)
        return self.empty


@dataclass(slots=True)
class _Hold:
    """All of them together."""

    held: Sequence[_Held]
    emit: Emit
    guardian: Guardian
    began: float = field(default_factory=time.monotonic)

    def each(self, do: Callable[[_Held], bool]) -> bool:
        """Whether ``do`` is true for all that still answer; one that does not is told about, once."""
        every = True
        for held in self.held:
            if held.trouble:
                continue
            try:
                every = do(held) and every
            except ConsoleError as error:
                held.trouble = str(error)
                self.emit(
                    Caution(
                        f"{held.state.place} cannot pause clients: {error}; those that have a query "
                        "under way at the switch lose it"
                    )
                )
        return every

    def pause(self) -> None:
        deadline = time.monotonic() + LOGIN_SECONDS
        while not self.each(lambda held: not held.logging_in()) and time.monotonic() < deadline:
            time.sleep(0.002)  # a login takes milliseconds, and PgBouncer announces nothing

        def send(held: _Held) -> bool:
            held.sent = True
            try:
                for setting in held.settings:
                    held.control.set(setting, "0")
            except ConsoleError:
                held.settings = {}  # it helps, but nothing depends on it
            for session, name in zip(held.pausing, held.names, strict=True):
                session.pause(name)
            return True

        self.began = time.monotonic()
        self.each(send)

    def let_go(self) -> None:
        """Resumes; where that fails the guardian goes on trying."""
        done = True
        for held in self.held:
            for session in held.pausing:
                session.close()
            done = self._resume(held) and done
        if done:
            self.guardian.dismiss()

    def _resume(self, held: _Held) -> bool:
        """Whether nothing of it is paused, and nothing can become so."""
        deadline = time.monotonic() + RESUME_SECONDS
        while True:
            try:
                if held.control.broken:
                    held.control = Console(held.state.target)
                for name in held.names:
                    with suppress(ConsoleError):  # both are refused where nothing is paused, or was never made
                        if not held.empty:
                            held.control.reconnect(name)
                        held.control.resume(name)
                # Not sooner: the first login is under way by now.
                for setting, value in held.settings.items():
                    held.control.set(setting, value)
                paused = [entry.name for entry in held.control.entries() if entry.paused and entry.name in held.names]
                if not paused:
                    # A PAUSE that was sent and never seen to hold may still come: the guardian looks out for it.
                    return held.confirmed or not held.sent
                why = f'"{paused[0]}" stays paused'
            except ConsoleError as error:
                why = str(error)
            if time.monotonic() > deadline:
                commands = "; ".join(psql(held.state, f'RESUME "{name}"') for name in held.names)
                self.emit(
                    Caution(
                        f"{held.state.place} could not resume its clients: {why}; a process "
                        f"of lastgood keeps trying. To do it yourself: {commands}"
                    )
                )
                return False
            time.sleep(0.1)  # it may be restarting; nothing announces its return


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
    """Holds back the clients of every database of PgBouncer that leads to ``live``, for the length of a block.

    ``connection`` is an idle session at the live database's server, outside of a transaction; ``fence`` the server
    process that keeps writers out, if there is one. Gives None where there is nobody to hold back, or no way to: that
    is told as a caution and stops nothing. On leaving, clients go on first of all; whatever the block raised. Raises
    Interrupted, or OSError when the journal can't be written: then nothing is paused any more.
    """
    with ExitStack() as stack:
        hold = _prepared(config, live, connection, journal, context.emit, stack)
        if hold is None:
            yield None
            return
        names = tuple(name for held in hold.held for name in held.names)
        pause = Pause(names)
        try:
            journal.write("pause begins", databases=names, guardian=hold.guardian.pid)
            hold.pause()
            pause.quiet = _wait(hold, config.pause_limit, connection, live.dbname, context, fence)
            if not pause.quiet:
                pause.cut = _cut(hold, connection, live.dbname)
                context.emit(Caution(_late(pause, time.monotonic() - hold.began)))
            pause.databases = tuple(name for held in hold.held if not held.trouble for name in held.names)
            if all(held.confirmed for held in hold.held):
                hold.guardian.pause_holds()
            fault.point("pause.holds")
            yield pause
        finally:
            hold.let_go()
            pause.seconds = time.monotonic() - hold.began
            # The clients are what counts; the next entry that can't be written is told.
            with suppress(OSError):
                journal.write("pause over", seconds=round(pause.seconds, 3), quiet=pause.quiet, cut=pause.cut)


def _prepared(
    config: PgBouncer, live: Target, connection: Connection, journal: Journal, emit: Emit, stack: ExitStack
) -> _Hold | None:
    """Everything that takes time or may fail, before anybody waits."""
    held = []
    for state in consoles(config, live, connection) if config.admin else ():
        names = tuple(name for name, _ in _names(state))
        trouble = state.trouble or ("" if state.may_pause else f'"{state.user}" is not one of its admin_users')
        if trouble:
            emit(Caution(f"{state.place} cannot pause clients: {trouble}"))
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
        tuple(Watched(each.state.target, each.names, each.settings) for each in held),
        config.pause_limit + EXCHANGE_SECONDS,
        journal.path,
    )
    try:
        return _Hold(held, emit, stack.enter_context(standing_by(order)))
    except NotReady as error:
        emit(
            Caution(
                f"PgBouncer's clients are not paused: the process that would resume them if this one died could "
                f"not be started: {error}"
            )
        )
        return None


def _wait(hold: _Hold, seconds: float, connection: Connection, live: str, context: Context, fence: int | None) -> bool:
    """Until no transaction is under way any more, for so long at most. Not for those that can't end: they wait for
    the fence, which is there until the switch."""
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
            if _hopeless(hold, connection, live, fence):
                return False
        time.sleep(POLL_SECONDS)  # PgBouncer announces nothing


def _busy(hold: _Hold) -> set[int | None]:
    """The server processes that clients still have; None among them where PgBouncer does not know."""
    found: set[int | None] = set()

    def add(held: _Held) -> bool:
        found.update(each.pid for each in held.control.busy_servers() if each.database in held.names)
        return True

    hold.each(add)
    return found


def _hopeless(hold: _Hold, connection: Connection, live: str, fence: int) -> bool:
    """Whether all that is left waits for the fence, itself or behind others that do."""
    busy = _busy(hold)
    blockers = {row[0]: set(row[5]) for row in connection.execute(_SESSIONS, [live])}
    stuck = {fence}
    while more := {pid for pid, by in blockers.items() if pid not in stuck and by & stuck}:
        stuck |= more
    return bool(busy) and busy <= stuck


def _cut(hold: _Hold, connection: Connection, live: str) -> tuple[str, ...]:
    """Whose transactions are still open, in words."""
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
    said = f"{count} {'transaction' if count == 1 else 'transactions'}" if count else "some transactions"
    who = f" ({'; '.join(pause.cut[:3])}{'; …' if count > 3 else ''})" if count else ""
    return (
        f"PgBouncer paused clients, but {said} did not end in {seconds:.1f} s{who}: the switch ends them; all "
        "other clients wait and lose nothing"
    )


def let_go(config: PgBouncer, live: Target, connection: Connection, emit: Emit) -> tuple[str, ...]:
    """Resumes what is paused of the databases that lead to ``live``: for a run that stopped in between, and nobody
    else at work. Returns their names."""
    resumed = []
    for state in consoles(config, live, connection) if config.admin else ():
        waiting = [each.name for each in state.databases if each.paused]
        try:
            if state.trouble:
                raise ConsoleError(state.trouble)
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
                    f"cannot see whether {state.place} still pauses clients: {error}. "
                    f"To see it: {psql(state, 'SHOW DATABASES')}"
                )
            )
    return tuple(resumed)


def let_go_before(request: Request, emit: Emit) -> None:
    """Clients that PgBouncer still holds back for a run that stopped go on before anything else is done."""
    if request.pgbouncer.admin:
        live = request.target.dbname
        with database.connect_maintenance(request.target, live) as maintenance:
            lock_live(maintenance, live, nothing)
            let_go(request.pgbouncer, request.target.at(live), maintenance, emit)


def planned_pauses(config: PgBouncer, states: Sequence[ConsoleState]) -> tuple[PlannedPause, ...]:
    """Whom a switch would hold back, as the plan shows it."""
    return tuple(
        PlannedPause(pooler=state.place, console=state.shown, database=name, mode=mode, limit=config.pause_limit)
        for state in states
        for name, mode in _names(state)
    )


def _names(state: ConsoleState) -> list[tuple[str, str]]:
    """The databases of a PgBouncer that are paused at the switch, with how they pool."""
    if state.trouble or not state.may_pause:
        return []
    named = [(each.name, each.mode) for each in state.databases if not each.paused]
    return named + [(name, "") for name in state.missing]
