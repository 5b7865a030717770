"""What can be done in an emergency, the best first: by recover itself, or by hand with the commands to run."""

from __future__ import annotations

import shlex
from datetime import datetime

from lastgood.command.recover import damage
from lastgood.command.recover.case import Case
from lastgood.command.recover.evidence import Candidate, Evidence
from lastgood.command.recover.report import Proposal
from lastgood.status import OurDatabase, UnfinishedDeployment
from lastgood.text.units import ago, span


def proposals(case: Case) -> list[Proposal]:
    """All that can be done; the first one is what recover would do. Empty when there is nothing to go back to."""
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
    if case.deployment is not None and not evidence.wish.chosen:
        if case.before_deployment is None:
            found.append(_fetch(case.deployment))
        found.append(_accept(evidence, case.deployment))
    renamed = server.access == "missing" and bool(server.similar_names)
    chosen, asked = case.chosen, evidence.wish.chosen
    if renamed and not asked:
        found.append(_rename_back(evidence))
    if case.only_rights and not asked:
        found.append(_grant())
    automatic = asked or (case.broken and not renamed and not case.only_rights)
    if chosen is not None:
        # The ways that are done without asking come first.
        found.insert(0 if case.before_deployment is chosen else len(found), _back_to(case, chosen, automatic))
    kept = next((each for each in server.kept if not each.deployment), None)
    if kept is not None and server.access == "open":
        found.append(_undo(case, kept, case.content_broken and chosen is None))
    if kept is not None and server.access in ("missing", "invalid"):
        found.append(_rename_kept(evidence, kept))
    if chosen is None:
        found += [_from_elsewhere(case, each) for each in evidence.elsewhere[:3]]
        found += [_from_sibling(evidence, each.name) for each in evidence.siblings[:2]]
    found += [_salvage(evidence, each) for each in case.damaged_before[:1]]
    return found


def _reach(evidence: Evidence) -> Proposal:
    host = evidence.target.keywords.get("host") or "its machine"
    return Proposal(
        kind="by_hand",
        title="bring the server back first",
        detail=f"On {host}, look whether it runs, read the end of its log, and whether its disk is full. A server that "
        "was just restarted may still be recovering, which takes minutes: do not stop it. Then run lastgood recover.",
        name="",
        commands=("lastgood recover",),
        automatic=False,
    )


def _on_another(evidence: Evidence, chosen: Candidate) -> Proposal:
    path = shlex.quote(str(chosen.point.path))
    return Proposal(
        kind="by_hand",
        title=f"restore {chosen.point.path.name} on another server, if this one is lost",
        detail=f"Made {ago(chosen.point.made_at, evidence.clock)}, by its {chosen.point.time_source}. What was written "
        "since is on the lost server's disk, if anywhere: keep that disk.",
        name="",
        commands=(f"lastgood restore {path} --into {shlex.quote(evidence.name)} --db URL_OF_ANOTHER_SERVER",),
        automatic=False,
    )


def _primary() -> Proposal:
    return Proposal(
        kind="by_hand",
        title="run it against the primary",
        detail="A standby can't be put back by itself; whatever is done on its primary, it repeats. If the primary is "
        "lost, this standby is your best copy: think twice before promoting it.",
        name="",
        commands=("lastgood recover --db URL_OF_THE_PRIMARY",),
        automatic=False,
    )


def _by_hand_run(case: Case) -> Proposal:
    server = case.evidence.server
    commands: tuple[str, ...]
    if server.working:
        title, commands = "wait for who is at work, or interrupt him where he runs", ("lastgood status",)
        detail = "One run at a time: a second one would be refused."
    else:
        run = server.unfinished[0]
        title, commands = "finish that run first, or walk it back", run.commands
        detail = (
            f'Resuming goes on with it; aborting removes the database that it was building. "{case.evidence.name}" is '
            "touched by neither. Then run lastgood recover again."
        )
    return Proposal(kind="by_hand", title=title, detail=detail, name="", commands=commands, automatic=False)


def _fetch(deployment: UnfinishedDeployment) -> Proposal:
    return Proposal(
        kind="by_hand",
        title=f"get the restore point that the deployment made from {deployment.host}",
        detail=f"{deployment.point} is not in this store, and nothing older is as near. Copy it here with its "
        ".lastgood.json, or name its folder with --store; then run lastgood recover again.",
        name="",
        commands=(),
        automatic=False,
    )


def _accept(evidence: Evidence, deployment: UnfinishedDeployment) -> Proposal:
    return Proposal(
        kind="by_hand",
        title=f'take "{evidence.name}" as it is',
        detail="Only if you know that its migration was done to the end, or left nothing.",
        name="",
        commands=(f"lastgood deploy --accept {deployment.run}",),
        automatic=False,
    )


def _open(evidence: Evidence) -> Proposal:
    name = _identifier(evidence.name)
    commands: tuple[str, ...] = ()
    if evidence.server.access == "closed":
        commands = (evidence.psql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"),)
    return Proposal(
        kind="by_hand",
        title=f'find out who closed "{evidence.name}", and open it',
        detail="Nothing can be said about what is in it before it can be entered. Then run lastgood recover again.",
        name="",
        commands=(*commands, "lastgood recover"),
        automatic=False,
    )


def _grant() -> Proposal:
    return Proposal(
        kind="by_hand",
        title="give the application's roles their rights again",
        detail="The rows are there; what is missing are rights, and neither the live database nor the restore point "
        "has them. They stand in the migrations that granted them, and in any dump made without --no-acl.",
        name="",
        commands=(),
        automatic=False,
    )


def _rename_back(evidence: Evidence) -> Proposal:
    name = _identifier(evidence.name)
    other = _identifier(evidence.server.similar_names[0])
    return Proposal(
        kind="by_hand",
        title=f"look whether {other} is it, renamed, and give it its name back",
        detail="Only you can tell. Nothing is lost by that, and nothing else brings back what was written last.",
        name="",
        commands=(evidence.psql(f"ALTER DATABASE {other} RENAME TO {name}"),),
        automatic=False,
    )


def _rename_kept(evidence: Evidence, kept: OurDatabase) -> Proposal:
    name = _identifier(evidence.name)
    other = _identifier(kept.name)
    return Proposal(
        kind="by_hand",
        title=f"bring back the kept database {other}",
        detail=f"It {kept.origin}, {ago(kept.made_at, evidence.clock)}; what was written since is not in it.",
        name="",
        commands=(
            evidence.psql(
                f"ALTER DATABASE {other} RENAME TO {name}",
                f"ALTER DATABASE {name} ALLOW_CONNECTIONS true",
                f"COMMENT ON DATABASE {name} IS NULL",
            ),
        ),
        automatic=False,
    )


def _back_to(case: Case, chosen: Candidate, automatic: bool) -> Proposal:
    evidence, point = case.evidence, chosen.point
    gone = evidence.server.access in ("missing", "invalid")
    said = [f"Made {ago(point.made_at, evidence.clock)}, by its {point.time_source}."]
    newest = case.fitting[0]
    if newest is not chosen:
        older = _distance(newest.point.made_at, chosen.point.made_at)
        said.append(f"That is {older} older than {newest.point.path.name}: what was written in between is not in it.")
    if chosen.verdict is None:
        said.append("It was not read to its end here; rollback does that first, and refuses it when it is not whole.")
    if case.rights_lost:
        said.append("It does not bring back who may do what: see below.")
    if damage.migrated_since(evidence.live, chosen):
        said.append("It was made before the last migration, as a deployment makes one.")
    if gone:
        said.append(f'It is restored beside everything else and proved; only then it gets the name "{evidence.name}".')
    if not gone and (same := case.same_as_now(evidence.candidates.index(chosen))):
        said.append(f"It would change nothing: {same}.")
    if not automatic:
        said.append("Say that you want it with --latest, --before or --before-migration, or choose a number.")
    return Proposal(
        kind="reinstate" if gone else "rollback",
        title=f"{'restore' if gone else 'go back to'} {point.path.name}",
        detail=" ".join(said),
        name=str(point.path),
        commands=() if gone else (f"lastgood rollback {shlex.quote(str(point.path))}",),
        automatic=automatic,
    )


def _undo(case: Case, kept: OurDatabase, automatic: bool) -> Proposal:
    return Proposal(
        kind="undo",
        title=f'make the kept database "{kept.name}" the live one again',
        detail=f"It {kept.origin}, {ago(kept.made_at, case.evidence.clock)}, and nobody could write to it since. What "
        "is live now is kept in its turn, so this can be taken back.",
        name=kept.run,
        commands=(kept.undo_command or "lastgood undo",),
        automatic=automatic,
    )


def _from_elsewhere(case: Case, found: Candidate) -> Proposal:
    path = str(found.point.path)
    ours = found.point.manifest is not None
    whose = "It says that it is of this database." if ours else "Whose it is, its first bytes do not tell."
    return Proposal(
        kind="rollback",
        title=f"go back to {path}",
        detail=f"Found outside of the store, made {ago(found.point.made_at, case.evidence.clock)}, by its "
        f"{found.point.time_source}. {whose} The plan shows what it would bring and take away.",
        name=path,
        commands=(f"lastgood rollback {shlex.quote(path)} --dry-run",),
        automatic=ours and (case.content_broken or case.evidence.wish.latest) and case.evidence.server.access == "open",
    )


def _from_sibling(evidence: Evidence, name: str) -> Proposal:
    return Proposal(
        kind="by_hand",
        title=f'take what the database "{name}" of the same server has',
        detail="It has the same tables. Whether its rows are those that you miss, only you can tell.",
        name="",
        commands=(
            f"lastgood backup --db {shlex.quote(str(evidence.target.at(name)))} --label from_{_word(name)}",
            f"lastgood rollback {_word(name)}_… --dry-run",
        ),
        automatic=False,
    )


def _salvage(evidence: Evidence, found: Candidate) -> Proposal:
    into = f"{evidence.name}_readable"
    return Proposal(
        kind="by_hand",
        title=f"take what can still be read of {found.point.path.name}",
        detail="Loaded into a database beside the live one, unproved, with a list of what is missing; rows can be "
        "compared and copied from there by hand.",
        name="",
        commands=(
            f"lastgood restore {shlex.quote(str(found.point.path))} --into {shlex.quote(into)} --salvage-readable",
        ),
        automatic=False,
    )


def _distance(newer: datetime, older: datetime) -> str:
    return span((newer - older).total_seconds())


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _word(name: str) -> str:
    return "".join(c if c.isalnum() or c in "_-" else "_" for c in name)
