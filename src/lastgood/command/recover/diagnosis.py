"""The diagnosis of the evidence: the emergency, the reasons and the proposals. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from lastgood.command.recover import damage, remains
from lastgood.command.recover.case import Case
from lastgood.command.recover.evidence import Evidence, Seen
from lastgood.command.recover.proposals import proposals
from lastgood.command.recover.report import Diagnosis, Emergency, Reason
from lastgood.command.recover.timeline import timeline
from lastgood.postgres.deployment import ACTIVITY
from lastgood.text.units import ago, counted

TITLES: dict[Emergency, str] = {
    "server_unreachable": "the server is unreachable",
    "unfinished_run": "a run of lastgood is not finished",
    "database_missing": 'the database "{live}" does not exist',
    "database_closed": 'the database "{live}" accepts no connections',
    "no_backup": "there is no backup",
    "corrupt_backup": "the backup is corrupt",
    "unknown_state": '"{live}" is damaged or incomplete',
    "older_state": 'no damage found in "{live}"',
}


def diagnose(evidence: Evidence, seconds: float = 0.0) -> Diagnosis:
    """Diagnose the evidence. ``seconds``: how long gathering it took."""
    case = Case(evidence)
    chosen = case.chosen
    proposed = tuple(proposals(case))
    return Diagnosis(
        live=evidence.name,
        emergency=case.emergency,
        title=_title(case),
        damaged=case.broken,
        reasons=tuple(_reasons(case)),
        timeline=timeline(evidence, {**case.without_effect, **case.suspects}, proposed[0] if proposed else None),
        left_out=tuple(
            each.path.name
            for each in evidence.emergency_backups
            if chosen is not None and each.made_at > chosen.point.made_at
        ),
        left=tuple(remains.left(evidence, needed=chosen is None)),
        scope=remains.scope(evidence),
        scope_note=remains.scope_note(evidence),
        proposals=proposed,
        statement=remains.statement(evidence, chosen, proposed, rights_lost=case.rights_lost),
        places=tuple(map(str, evidence.places)),
        unseen=evidence.unseen,
        seconds=round(seconds, 3),
    )


def _title(case: Case) -> str:
    if case.emergency == "no_backup" and case.evidence.elsewhere:
        dumps = counted(len(case.evidence.elsewhere), "dump was", "dumps were")
        return f"the store has no backup; {dumps} found elsewhere"
    return TITLES[case.emergency].format(live=case.evidence.name)


def _reasons(case: Case) -> list[Reason]:
    return [Reason(text=each.text, source=each.source) for each in (*_of_server(case), *_of_content(case))]


def _of_server(case: Case) -> Iterator[Seen]:
    evidence, server = case.evidence, case.evidence.server
    if server.error:
        yield Seen(server.error, "the connection")
    if server.standby:
        yield Seen("this server is a standby and only replays changes of its primary", "pg_is_in_recovery")
    if server.working:
        yield Seen(f"a run is in progress: {server.working}", "the lock of the live database")
    for run in server.unfinished:
        if not run.working:
            started = f"started {ago(run.started, evidence.clock)} by {run.user} on {run.host}"
            yield Seen(f"run {run.run}, {started}, was interrupted", f'the mark of "{run.shadow}"')
    if server.deployment is not None and not server.working:
        each = server.deployment
        yield Seen(
            f"deployment {each.run}, begun {ago(each.started, evidence.clock)} by {each.user} on {each.host}, stopped "
            f"while {ACTIVITY[each.stage]}; it had made the restore point {PurePath(each.point).name}",
            f'the deployment mark on "{evidence.name}"',
        )
    if server.access == "missing":
        names = ", ".join(f'"{each}"' for each in server.similar_names)
        like = f"; similar names: {names}" if names else ""
        yield Seen(f'the server has no database "{evidence.name}"{like}', "pg_database")
    elif server.access == "invalid":
        text = f'"{evidence.name}" is invalid: DROP DATABASE was interrupted, and it accepts no connections'
        yield Seen(text, "pg_database")
    elif server.access == "closed":
        yield Seen(f'"{evidence.name}" accepts no connections: {server.why_closed}', "pg_database")
    elif server.access == "refused":
        yield Seen(f'cannot connect to "{evidence.name}": {server.why_closed}', "the connection")
    yield from server.finishing
    if not server.working:  # a run in progress pauses PgBouncer on purpose
        yield from server.paused
    if server.read_only:
        text = f"a setting makes sessions read-only; to reset it: {server.read_only}"
        yield Seen(text, "pg_db_role_setting")


def _of_content(case: Case) -> Iterator[Seen]:
    evidence, live, chosen = case.evidence, case.evidence.live, case.chosen
    yield from case.signs
    if live is not None:
        yield from live.shut
    for candidate in case.damaged_before:
        yield Seen(f"{candidate.point.path.name}: {candidate.defect}", "reading it")
    for place, why in case.suspects.items():
        name = evidence.candidates[place].point.path.name
        yield Seen(f"{name} was made after the damage: {why}", "its facts")
    for place, why in case.without_effect.items():
        yield Seen(f"{evidence.candidates[place].point.path.name} would change nothing: {why}", "its facts")
    if not evidence.candidates and not evidence.server.error:
        text = evidence.store_problem or f'"{evidence.store}" holds no restore point of "{evidence.name}"'
        if evidence.of_others:
            text += f"; {len(evidence.of_others)} are of other databases, for example {evidence.of_others[0]}"
        yield Seen(text, "the store")
    if case.emergency == "older_state" and not case.signs:
        against = f"; nothing of {case.reference.name} is missing" if case.reference is not None else ""
        text = f"all keys and indexes exist and are valid{against}"
        yield Seen(text, "pg_class, pg_constraint, pg_index")
    if chosen is not None and live is not None and damage.migrated_since(live, chosen):
        text = f"migration {live.migration} is in the database, but not in {chosen.point.path.name}"
        yield Seen(text, live.migrations_table)
