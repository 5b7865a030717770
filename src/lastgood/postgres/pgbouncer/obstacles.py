"""Obstacles to pausing PgBouncer's clients, each with the command that removes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lastgood.postgres.pgbouncer.consoles import ConsoleState, psql
from lastgood.postgres.pressure.risks import Risk

if TYPE_CHECKING:
    from lastgood.config.tables import PgBouncer

# The duration of a switch in addition to the wait, with all its retries.
SWITCH_SECONDS = 15.0
RETRY_SECONDS = 1.0


def findings(states: Sequence[ConsoleState], config: PgBouncer, live: str, *, fence_now: bool = False) -> list[Risk]:
    """Risks that the operator has to know before the switch. None of them refuses a rollback: where clients cannot be
    paused, their sessions are terminated like all others."""
    return [risk for state in states for risk in _findings(state, config, live, fence_now)]


def _findings(state: ConsoleState, config: PgBouncer, live: str, fence_now: bool) -> Iterator[Risk]:
    where = state.place
    if state.problem:
        yield Risk(
            "caution",
            "pgbouncer_unreachable",
            f"cannot use the console of {where} to pause clients: {state.problem}; queries that are running at the "
            "switch fail",
            _access_hint(state),
        )
        return
    if not state.may_pause:
        yield Risk(
            "caution",
            "pgbouncer_no_admin",
            f'{where} does not allow "{state.user}" to pause clients: it is not one of its admin_users; queries that '
            "are running at the switch fail",
            f'Add "{state.user}" to admin_users in pgbouncer.ini and run RELOAD on its console, or set another user '
            "in lastgood.toml.",
        )
    yield from _databases(state, where, live)
    yield from _modes(state, where, fence_now)
    yield from _settings(state, where, config)


def _access_hint(state: ConsoleState) -> str:
    problem = state.problem.lower()
    if "password" in problem or "auth" in problem or "sasl" in problem:
        return "Put its password in ~/.pgpass (HOST:PORT:pgbouncer:USER:PASSWORD). To test it: " + psql(
            state, "SHOW VERSION"
        )
    if "not allowed" in problem:
        return "Add that user to admin_users in pgbouncer.ini. To test it: " + psql(state, "SHOW VERSION")
    if "startup parameter" in problem:
        return "Remove it from PGOPTIONS, or add it to ignore_startup_parameters in pgbouncer.ini."
    return "To test it: " + psql(state, "SHOW VERSION")


def _databases(state: ConsoleState, where: str, live: str) -> Iterator[Risk]:
    for name in state.missing:
        yield Risk(
            "caution",
            "pgbouncer_no_such_database",
            f'{where} has no database "{name}" now; with the fallback * it creates one when a client requests it',
            "List its databases: " + psql(state, "SHOW DATABASES"),
        )
    for name, why in state.doubtful:
        yield Risk(
            "caution",
            "pgbouncer_doubtful_database",
            f'cannot determine whether "{name}" of {where} leads to "{live}": {why}; its clients are not paused',
            f'If it does, add it in lastgood.toml: [pgbouncer] databases = ["{name}"]',
        )
    if not state.databases and not state.missing and not state.doubtful:
        yield Risk(
            "caution",
            "pgbouncer_leads_elsewhere",
            f'{where} has no database that leads to "{live}": there are no clients to pause',
            "If it has one, add it in lastgood.toml: [pgbouncer] databases",
        )
    for each in state.databases:
        if each.paused:
            yield Risk(
                "caution",
                "pgbouncer_paused",
                f'"{each.name}" of {where} was already paused by another session: {each.waiting} clients wait, and the '
                "run leaves it paused",
                "To resume it: " + psql(state, f'RESUME "{each.name}"'),
            )


def _modes(state: ConsoleState, where: str, fence_now: bool) -> Iterator[Risk]:
    for each in state.databases:
        if each.mode == "session":
            yield Risk(
                "caution",
                "pgbouncer_session_mode",
                f'"{each.name}" of {where} pools sessions: clients that are connected at the switch are not paused and '
                "lose their connections",
                "Set pool_mode = transaction to keep these connections.",
            )
        elif fence_now:
            yield Risk(
                "caution",
                "pgbouncer_and_fence",
                f'writers that wait for the fence keep server connections of "{each.name}" of {where} busy: when none '
                "is free, readers wait too; and at the switch these writers' transactions fail",
                "Use --fence at-swap: then no client waits before the switch, and no query fails.",
            )
    if state.settings.get("so_reuseport") == "1":
        yield Risk(
            "caution",
            "pgbouncer_so_reuseport",
            f"{where} may share its port with other processes (so_reuseport): only the one that answers pauses its "
            "clients",
            "Add the console of each of them in lastgood.toml, by its own port or Unix socket.",
        )


def _settings(state: ConsoleState, where: str, config: PgBouncer) -> Iterator[Risk]:
    if not state.databases:
        return
    wait = config.pause_limit + SWITCH_SECONDS
    for name in ("query_wait_timeout", "query_timeout"):
        limit = _seconds(state, name)
        if 0 < limit < wait:
            yield Risk(
                "caution",
                f"pgbouncer_{name}",
                f"{where} disconnects clients that wait longer than {limit:g} s ({name}); the switch may take "
                f"{wait:g} s",
                f"Raise the limit: {psql(state, f'SET {name} = {wait:.0f}')}; or lower pause_limit in lastgood.toml.",
            )
    retry = _seconds(state, "server_login_retry")
    # During a pause this is set to 0.
    if retry > RETRY_SECONDS and not state.may_pause:
        yield Risk(
            "caution",
            "pgbouncer_server_login_retry",
            f"{where} waits {retry:g} s after a failed login to the server before it retries (server_login_retry): if "
            "one fails at the switch, its clients wait that long",
            f"Shorten it: {psql(state, 'SET server_login_retry = 1')}",
        )


def _seconds(state: ConsoleState, name: str) -> float:
    try:
        return float(state.settings.get(name) or 0)
    except ValueError:
        return 0.0
