"""What stands in the way of holding PgBouncer's clients back, each with the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lastgood.postgres.pgbouncer.look import ConsoleState, psql
from lastgood.postgres.risks import Risk

if TYPE_CHECKING:
    from lastgood.config.tables import PgBouncer

# What a switch takes besides the waiting, with all its tries.
SWITCH_SECONDS = 15.0
RETRY_SECONDS = 1.0


def findings(states: Sequence[ConsoleState], config: PgBouncer, live: str, *, fence_now: bool = False) -> list[Risk]:
    """What the operator has to know before the switch. None of it refuses a rollback: where clients can't be held
    back, their sessions are ended as everybody else's."""
    return [risk for state in states for risk in _findings(state, config, live, fence_now)]


def _findings(state: ConsoleState, config: PgBouncer, live: str, fence_now: bool) -> Iterator[Risk]:
    where = state.place
    if state.trouble:
        yield Risk(
            "caution",
            "pgbouncer_unreachable",
            f"{where} can't be asked to hold clients back: {state.trouble}; those that have a query under way at the "
            "switch lose it",
            _way_in(state),
        )
        return
    if not state.may_pause:
        yield Risk(
            "caution",
            "pgbouncer_no_admin",
            f'{where} does not let "{state.user}" hold clients back: it is not one of its admin_users; clients that '
            "have a query under way at the switch lose it",
            f'Add "{state.user}" to admin_users in pgbouncer.ini and run RELOAD on its console, or name another user '
            "in lastgood.toml.",
        )
    yield from _which(state, where, live)
    yield from _modes(state, where, live, fence_now)
    yield from _settings(state, where, config)


def _way_in(state: ConsoleState) -> str:
    said = state.trouble.lower()
    if "password" in said or "auth" in said or "sasl" in said:
        return "Put its password into ~/.pgpass (HOST:PORT:pgbouncer:USER:PASSWORD). To try it: " + psql(
            state, "SHOW VERSION"
        )
    if "not allowed" in said:
        return "Add that user to admin_users in pgbouncer.ini. To try it: " + psql(state, "SHOW VERSION")
    if "startup parameter" in said:
        return "Take that out of PGOPTIONS, or put it into ignore_startup_parameters in pgbouncer.ini."
    return "To try it: " + psql(state, "SHOW VERSION")


def _which(state: ConsoleState, where: str, live: str) -> Iterator[Risk]:
    for name in state.missing:
        yield Risk(
            "caution",
            "pgbouncer_no_such_database",
            f'{where} has no database "{name}" now; if it has the fallback *, it makes one when a client asks for it',
            "See which there are: " + psql(state, "SHOW DATABASES"),
        )
    for name, why in state.doubtful:
        yield Risk(
            "caution",
            "pgbouncer_doubtful_database",
            f'{where} has "{name}", and it can\'t be found out whether that leads to "{live}": {why}; its clients are '
            "not held back",
            f'If it does, name it in lastgood.toml: [pgbouncer] databases = ["{name}"]',
        )
    if not state.databases and not state.missing and not state.doubtful:
        yield Risk(
            "caution",
            "pgbouncer_leads_elsewhere",
            f'{where} has no database that leads to "{live}": there is nobody to hold back',
            "If it has one, name it in lastgood.toml: [pgbouncer] databases",
        )
    for each in state.databases:
        if each.paused:
            yield Risk(
                "caution",
                "pgbouncer_paused",
                f'"{each.name}" of {where} is paused already, by somebody else: {each.waiting} clients wait, and the '
                "run leaves it so",
                "To let them go on: " + psql(state, f'RESUME "{each.name}"'),
            )


def _modes(state: ConsoleState, where: str, live: str, fence_now: bool) -> Iterator[Risk]:
    for each in state.databases:
        if each.mode == "session":
            yield Risk(
                "caution",
                "pgbouncer_session_mode",
                f'"{each.name}" of {where} pools sessions: who is connected at the switch is not held back, and loses '
                "the connection",
                "With pool_mode = transaction nobody would.",
            )
        elif fence_now:
            yield Risk(
                "caution",
                "pgbouncer_and_fence",
                f'writers that wait for the fence keep server connections of "{each.name}" of {where} busy: when all '
                "are taken, readers wait too; and at the switch these writers' transactions fail",
                "With --fence at-swap nobody waits until the switch, and no query fails.",
            )
    if state.settings.get("so_reuseport") == "1":
        yield Risk(
            "caution",
            "pgbouncer_so_reuseport",
            f"{where} may share its port with other processes (so_reuseport): only the one that answers is asked to "
            "hold clients back",
            "Name the console of each of them in lastgood.toml, by its own port or Unix socket.",
        )


def _settings(state: ConsoleState, where: str, config: PgBouncer) -> Iterator[Risk]:
    if not state.databases:
        return
    wait = config.pause_limit + SWITCH_SECONDS
    for name in ("query_wait_timeout", "query_timeout"):
        found = _seconds(state, name)
        if 0 < found < wait:
            yield Risk(
                "caution",
                f"pgbouncer_{name}",
                f"{where} turns clients away that wait longer than {found:g} s ({name}); the switch may keep them "
                f"waiting for {wait:g} s",
                f"Allow more: {psql(state, f'SET {name} = {wait:.0f}')}; or lower pause_limit in lastgood.toml.",
            )
    retry = _seconds(state, "server_login_retry")
    # Where clients are held back this is set to 0 meanwhile.
    if retry > RETRY_SECONDS and not state.may_pause:
        yield Risk(
            "caution",
            "pgbouncer_server_login_retry",
            f"{where} waits {retry:g} s after a login that failed before it tries another (server_login_retry): "
            "should one fail at the switch, its clients wait as long",
            f"Shorten it: {psql(state, 'SET server_login_retry = 1')}",
        )


def _seconds(state: ConsoleState, name: str) -> float:
    try:
        return float(state.settings.get(name) or 0)
    except ValueError:
        return 0.0
