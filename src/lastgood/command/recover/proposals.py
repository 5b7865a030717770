"""The proposals in an emergency, best first: done by recover itself, or by hand with the commands to run."""

from __future__ import annotations

import shlex

from lastgood.command.recover import damage
from lastgood.command.recover.case import Case
from lastgood.command.recover.evidence import Candidate, Evidence
from lastgood.command.recover.report import Proposal
from lastgood.errors import continued
from lastgood.status import OurDatabase, UnfinishedDeployment
from lastgood.text.quoting import identifier
from lastgood.text.units import ago, span


def proposals(case: Case) -> list[Proposal]:
    """Return all proposals; recover carries out the first. Empty if there is nothing to roll back to. Without damage,
    the first one loses nothing."""
    evidence, server = case.evidence, case.evidence.server
    if server.error:
        return [_reach(evidence), *([_on_another(evidence, case.chosen)] if case.chosen is not None else [])]
    if server.standby:
        return [_primary()]
    if case.emergency == "unfinished_run":
        return [_by_hand_run(case)]
    if server.access in ("closed", "refused"):
        return [_open(evidence)]
    found: list[Proposal] = []
    if case.deployment is not None and not evidence.goal.chosen:
        if case.before_deployment is None:
            found.append(_fetch(case.deployment))
        found.append(_accept(evidence, case.deployment))
    renamed = server.access == "missing" and bool(server.similar_names)
    chosen, asked = case.chosen, evidence.goal.chosen
    if renamed and not asked:
        found.append(_rename_back(evidence))
    if case.only_rights and not asked:
        found.append(_grant())
    automatic = asked or (case.broken and not renamed and not case.only_rights)
    if chosen is not None:
        # Proposals that run without confirmation come first.
        found.insert(0 if case.before_deployment is chosen else len(found), _back_to(case, chosen, automatic))
    kept = next((each for each in server.kept if not each.deployment), None)
    if kept is not None and server.access == "open":
        found.append(_undo(case, kept, case.content_broken and chosen is None))
    if kept is not None and server.access in ("missing", "invalid"):
        found.append(_rename_kept(evidence, kept))
    if chosen is None:
        found += [_from_elsewhere(case, each) for each in evidence.elsewhere[:3]]
        found += [_from_sibling(evidence, each.name) for each in evidence.siblings[:2]]
    found += [_readable_part(evidence, each) for each in case.damaged_before[:1]]
    if found and case.sound and not asked:
        found.insert(0, _leave(case))
    return found


def _leave(case: Case) -> Proposal:
    evidence = case.evidence
    if case.obstructed:
        title = "remove what blocks the application first, see above"
        detail = f'"{evidence.name}" shows no damage.'
    else:
        title = f'leave "{evidence.name}" as it is, unless you know that data is wrong'
        detail = "The differences above may be intended." if case.signs else "No damage was found."
    backup = case.damaged_before and not case.obstructed
    return Proposal(
        kind="leave",
        title=title,
        detail=f"{detail} A rollback would remove the rows written since the restore point."
        + (" Make a new restore point." if backup else ""),
        commands=("lastgood backup",) if backup else (),
    )


def _reach(evidence: Evidence) -> Proposal:
    host = evidence.target.keywords.get("host") or "its machine"
    return Proposal(
        title="reach the server first",
        detail=continued(
            evidence.server.hint,
            f"If the server is down: on {host}, check whether the disk is full, and read the end of the server's log. "
            "After a restart, recovery may take minutes: do not stop it. Then run lastgood recover.",
        ),
    )


def _on_another(evidence: Evidence, chosen: Candidate) -> Proposal:
    path = shlex.quote(str(chosen.point.path))
    return Proposal(
        title=f"restore {chosen.point.path.name} on another server, if this one is lost",
        detail=f"Made {ago(chosen.point.made_at, evidence.clock)} (time from its {chosen.point.time_source}). Later "
        "writes exist only on the disk of the lost server: keep that disk.",
        commands=(f"lastgood restore {path} --into {shlex.quote(evidence.name)} --db URL_OF_ANOTHER_SERVER",),
    )


def _primary() -> Proposal:
    return Proposal(
        title="run it against the primary",
        detail="A standby cannot be rolled back by itself; it replays the changes of its primary. If the primary is "
        "lost, this standby is the best copy: before promoting it, verify that the "
        "primary is stopped and compare pg_last_wal_receive_lsn() with the last known WAL position of the primary.",
        commands=("lastgood recover --db URL_OF_THE_PRIMARY",),
    )


def _by_hand_run(case: Case) -> Proposal:
    server = case.evidence.server
    commands: tuple[str, ...]
    if server.working:
        title, commands = "wait for the run in progress, or interrupt it on its host", ("lastgood status",)
        detail = "Only one run at a time is possible; a second one is refused."
    else:
        run = server.unfinished[0]
        title, commands = "resume or abort that run first", run.commands
        detail = (
            f'Resume continues the run up to the switch of "{case.evidence.name}"; abort removes what was built and '
            f'leaves "{case.evidence.name}" as it is. Then run lastgood recover again.'
        )
        if run.obstacle:
            title = "abort that run first"
            detail = (
                f"It cannot be resumed: {run.obstacle}. Abort removes what was built and leaves "
                f'"{case.evidence.name}" as it is. Then run lastgood recover again.'
            )
    return Proposal(title=title, detail=detail, commands=commands)


def _fetch(deployment: UnfinishedDeployment) -> Proposal:
    return Proposal(
        title=f"copy the restore point of the deployment from {deployment.host}",
        detail=f"{deployment.point} is not in this store, and it is newer than any restore point here. Copy it here "
        "with its .lastgood.json, or give its folder with --store; then run lastgood recover again.",
    )


def _accept(evidence: Evidence, deployment: UnfinishedDeployment) -> Proposal:
    return Proposal(
        title=f'accept "{evidence.name}" as it is',
        detail="Only if you know that the migration completed, or changed nothing.",
        commands=(f"lastgood deploy --accept {deployment.run}",),
    )


def _open(evidence: Evidence) -> Proposal:
    name = identifier(evidence.name)
    commands: tuple[str, ...] = ()
    if evidence.server.access == "closed":
        commands = (evidence.psql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"),)
    return Proposal(
        title=f'find out why "{evidence.name}" accepts no connections, and open it',
        detail="Its content can be checked only through a connection. Then run lastgood recover again.",
        commands=(*commands, "lastgood recover"),
    )


def _grant() -> Proposal:
    return Proposal(
        title="grant the application's roles their privileges again",
        detail="The rows exist, but privileges are missing in both the live database and the restore point. Find them "
        "in the migrations that granted them, or in a dump made without --no-acl.",
    )


def _rename_back(evidence: Evidence) -> Proposal:
    name = identifier(evidence.name)
    other = identifier(evidence.server.similar_names[0])
    return Proposal(
        title=f"check whether {other} is the renamed database, and restore its name",
        detail="Only you can decide this. Renaming loses nothing, and it is the only way to keep the latest writes.",
        commands=(evidence.psql(f"ALTER DATABASE {other} RENAME TO {name}"),),
    )


def _rename_kept(evidence: Evidence, kept: OurDatabase) -> Proposal:
    name = identifier(evidence.name)
    other = identifier(kept.name)
    return Proposal(
        title=f"restore the name of the kept database {other}",
        detail=f"It {kept.origin}, {ago(kept.made_at, evidence.clock)}; later writes are not in it.",
        commands=(
            evidence.psql(
                f"ALTER DATABASE {other} RENAME TO {name}",
                f"ALTER DATABASE {name} ALLOW_CONNECTIONS true",
                f"COMMENT ON DATABASE {name} IS NULL",
            ),
        ),
    )


def _back_to(case: Case, chosen: Candidate, automatic: bool) -> Proposal:
    evidence, point = case.evidence, chosen.point
    gone = evidence.server.access in ("missing", "invalid")
    sentences = [f"Made {ago(point.made_at, evidence.clock)} (time from its {point.time_source})."]
    newest = case.fitting[0]
    if newest is not chosen:
        older = span((newest.point.made_at - chosen.point.made_at).total_seconds())
        sentences.append(f"It is {older} older than {newest.point.path.name}: writes in between are not in it.")
    if chosen.verdict is None:
        sentences.append("It has not been verified yet. The rollback reads it first and refuses it if it is damaged.")
    if case.rights_lost:
        sentences.append("It does not restore privileges: see below.")
    if damage.migrated_since(evidence.live, chosen):
        sentences.append("It was made before the last migration.")
    if gone:
        sentences.append(f'It is restored under another name, verified, and only then renamed to "{evidence.name}".')
    if not gone and (same := case.same_as_now(evidence.candidates.index(chosen))):
        sentences.append(f"It would change nothing: {same}.")
    if not automatic:
        sentences.append("Select it with --latest, --before or --before-migration, or choose a number.")
    return Proposal(
        kind="reinstate" if gone else "rollback",
        title=f"{'restore' if gone else 'roll back to'} {point.path.name}",
        detail=" ".join(sentences),
        name=str(point.path),
        commands=() if gone else (f"lastgood rollback {shlex.quote(str(point.path))}",),
        automatic=automatic,
    )


def _undo(case: Case, kept: OurDatabase, automatic: bool) -> Proposal:
    made = ago(kept.made_at, case.evidence.clock)
    if kept.way == "in-place":
        title = f'undo: make the objects in the kept schemas "{kept.name}" live again'
        detail = f"Their content {kept.origin}, {made}. The current objects are kept, so this can be undone."
    else:
        title = f'undo: make the kept database "{kept.name}" live again'
        detail = (
            f"It {kept.origin}, {made}, and was closed to writes since. The current live database is kept, so "
            "this can be undone."
        )
    return Proposal(
        kind="undo",
        title=title,
        detail=detail,
        name=kept.run,
        commands=(kept.undo_command or "lastgood undo",),
        automatic=automatic,
    )


def _from_elsewhere(case: Case, found: Candidate) -> Proposal:
    path = str(found.point.path)
    ours = found.point.manifest is not None
    whose = "Its manifest names this database." if ours else "Its first bytes do not show which database it is from."
    return Proposal(
        kind="rollback",
        title=f"roll back to {path}",
        detail=f"Found outside the store, made {ago(found.point.made_at, case.evidence.clock)}, by its "
        f"{found.point.time_source}. {whose} The plan shows what would change.",
        name=path,
        commands=(f"lastgood rollback {shlex.quote(path)} --dry-run",),
        automatic=ours and (case.content_broken or case.evidence.goal.latest) and case.evidence.server.access == "open",
    )


def _from_sibling(evidence: Evidence, name: str) -> Proposal:
    return Proposal(
        title=f'use the content of the database "{name}" on the same server',
        detail="It has the same tables. Only you can decide whether its rows are the missing ones.",
        commands=(f"lastgood rollback --from {shlex.quote(str(evidence.target.at(name)))} --dry-run",),
    )


def _readable_part(evidence: Evidence, found: Candidate) -> Proposal:
    into = f"{evidence.name}_readable"
    return Proposal(
        title=f"restore what can be read of {found.point.path.name}",
        detail="It is loaded into a separate database, unverified, with a list of what is missing. Rows can be "
        "compared and copied from there by hand.",
        commands=(f"lastgood restore {shlex.quote(str(found.point.path))} --into {shlex.quote(into)} --skip-damaged",),
    )
