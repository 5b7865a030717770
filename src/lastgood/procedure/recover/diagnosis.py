"""From evidence to a diagnosis: which emergency this is, why, and what to do. Pure: nothing is looked at here.

The first of these that holds: the server does not answer; an unfinished run of lastgood stands in the way; the live
database is closed; there is nothing to go back to; the newest restore point is damaged; the live database is gone; it
is in a state that nobody chose; or it looks whole, and an older state is wanted.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from lastgood.points import may_lack
from lastgood.procedure.recover import damage, remains
from lastgood.procedure.recover.evidence import Candidate, Evidence, Seen
from lastgood.procedure.recover.report import Diagnosis, Emergency, Proposal, Reason
from lastgood.procedure.recover.timeline import ago, timeline

TITLES: dict[Emergency, str] = {
    "server_unreachable": "the server does not answer",
    "unfinished_run": "a run of lastgood is not finished",
    "database_missing": 'the database "{live}" is gone',
    "database_closed": 'the database "{live}" lets nobody in',
    "no_backup": "there is no backup",
    "corrupt_backup": "the backup is corrupt",
    "unknown_state": 'an automatic rollback or a migration stopped half-way, and left "{live}" in an unknown state',
    "older_state": 'nothing in "{live}" looks half-done: choose the older state to go back to',
}


@dataclass(frozen=True)
class Case:
    """The evidence, and what follows from it step by step."""

    evidence: Evidence

    @cached_property
    def suspects(self) -> dict[int, str]:
        """Candidates that were made after the damage, by their place, and why one thinks so."""
        live, all_ = self.evidence.live, self.evidence.candidates
        if live is None:
            return {}
        found = {}
        for place, candidate in enumerate(all_):
            why = damage.made_after(candidate, all_[place + 1 :], live)
            if why:
                found[place] = why
            elif candidate.usable:
                break  # older ones were made before this one, which was made before the damage
        return found

    @cached_property
    def fitting(self) -> tuple[Candidate, ...]:
        """What one may go back to by what the operator asked for, whether it is sound or not; newest first."""
        wish = self.evidence.wish
        return tuple(
            candidate
            for place, candidate in enumerate(self.evidence.candidates)
            if place not in self.suspects
            and (wish.before is None or candidate.point.made_at < wish.before)
            and (wish.before_migration is None or may_lack(candidate.migration, wish.before_migration))
        )

    @cached_property
    def chosen(self) -> Candidate | None:
        """The newest fitting one that nothing speaks against."""
        return next((candidate for candidate in self.fitting if candidate.usable), None)

    @cached_property
    def damaged_before(self) -> tuple[Candidate, ...]:
        """The fitting ones that are newer than the chosen one, and are no good."""
        return tuple(candidate for candidate in _until(self.fitting, self.chosen) if not candidate.usable)

    @cached_property
    def signs(self) -> tuple[damage.Sign, ...]:
        """By what one sees that the live database is damaged."""
        if self.evidence.live is None:
            return ()
        return damage.signs(self.evidence.live, self.reference)

    @cached_property
    def reference(self) -> damage.Reference | None:
        """The newest restore point before the damage whose content is known."""
        known = [each for place, each in enumerate(self.evidence.candidates) if place not in self.suspects]
        for candidate in (*known, *self.evidence.elsewhere):
            if candidate.usable and candidate.facts is not None:
                return damage.Reference(candidate.point.path.name, candidate.facts)
        return None

    @property
    def broken(self) -> bool:
        """Whether the live database shows damage that nothing else explains."""
        gone = self.evidence.server.access in ("missing", "invalid")
        return gone or any(sign.decisive for sign in self.signs)

    @cached_property
    def rights_lost(self) -> bool:
        """Whether the application's rights are gone, and the chosen restore point does not bring them back."""
        gone = any(sign.decisive and sign.source == damage.RIGHTS for sign in self.signs)
        verdict = self.chosen.verdict if self.chosen is not None else None
        return gone and verdict is not None and verdict.has_acls is False

    @property
    def only_rights(self) -> bool:
        """Whether lost rights are all that is wrong, and going back would not mend that."""
        return self.rights_lost and all(sign.source == damage.RIGHTS for sign in self.signs if sign.decisive)

    @cached_property
    def emergency(self) -> Emergency:
        """Which one it is."""
        evidence, server = self.evidence, self.evidence.server
        if server.error:
            return "server_unreachable"
        if server.working or server.unfinished:
            return "unfinished_run"
        if server.access in ("closed", "refused"):
            return "database_closed"
        if not evidence.candidates:
            return "no_backup"
        if self.damaged_before:
            return "corrupt_backup"
        if server.access in ("missing", "invalid"):
            return "database_missing"
        return "unknown_state" if self.broken else "older_state"


def diagnose(evidence: Evidence, seconds: float = 0.0) -> Diagnosis:
    """The diagnosis; ``seconds``: how long the evidence took."""
    case = Case(evidence)
    chosen = case.chosen
    proposals = tuple(_proposals(case))
    return Diagnosis(
        live=evidence.name,
        emergency=case.emergency,
        title=TITLES[case.emergency].format(live=evidence.name),
        damaged=case.broken,
        reasons=tuple(_reasons(case)),
        timeline=timeline(evidence, case.suspects),
        left=tuple(remains.left(evidence, needed=chosen is None)),
        scope=remains.scope(evidence),
        scope_note=remains.scope_note(evidence),
        proposals=proposals,
        statement=remains.statement(evidence, chosen, proposals, rights_lost=case.rights_lost),
        places=tuple(map(str, evidence.places)),
        unseen=evidence.unseen,
        seconds=round(seconds, 3),
    )


def _reasons(case: Case) -> list[Reason]:
    return [Reason(text=each.text, source=each.source) for each in (*_of_server(case), *_of_content(case))]


def _of_server(case: Case) -> Iterator[Seen]:
    evidence, server = case.evidence, case.evidence.server
    if server.error:
        yield Seen(server.error, "the connection")
    if server.standby:
        yield Seen("this server is a standby: it only repeats what its primary does", "pg_is_in_recovery")
    if server.working:
        yield Seen(f"somebody is at work on it now: {server.working}", "the lock of the live database")
    for run in server.unfinished:
        if not run.working:
            begun = f"begun {ago(run.started, evidence.clock)} by {run.user} on {run.host}"
            yield Seen(f"run {run.run}, {begun}, stopped in between", f'the mark of "{run.shadow}"')
    if server.access == "missing":
        names = ", ".join(f'"{each}"' for each in server.similar_names)
        like = f"; names like it: {names}" if names else ""
        yield Seen(f'the server has no database "{evidence.name}"{like}', "pg_database")
    elif server.access == "invalid":
        text = f'"{evidence.name}" is invalid: dropping it was interrupted, and nobody can enter it'
        yield Seen(text, "pg_database")
    elif server.access == "closed":
        yield Seen(f'"{evidence.name}" lets nobody in: {server.why_closed}', "pg_database")
    elif server.access == "refused":
        yield Seen(f'"{evidence.name}" did not let us in: {server.why_closed}', "the connection")
    if server.read_only:
        text = f"writers are refused by a setting; to take it back: {server.read_only}"
        yield Seen(text, "pg_db_role_setting")


def _of_content(case: Case) -> Iterator[Seen]:
    evidence, live, chosen = case.evidence, case.evidence.live, case.chosen
    yield from case.signs
    if live is not None:
        yield from live.shut
    for candidate in case.damaged_before:
        yield Seen(f"{candidate.point.path.name}: {candidate.what_is_wrong}", "reading it")
    for place, why in case.suspects.items():
        name = evidence.candidates[place].point.path.name
        yield Seen(f"{name} was made after the damage: {why}", "its facts")
    if not evidence.candidates and not evidence.server.error:
        text = f'"{evidence.store}" holds no restore point of "{evidence.name}"'
        yield Seen(text, "the store")
    if case.emergency == "older_state" and not case.signs:
        against = f"; it has everything that {case.reference.name} has" if case.reference is not None else ""
        text = f"every key and index is there and valid{against}"
        yield Seen(text, "pg_class, pg_constraint, pg_index")
    if chosen is not None and live is not None and damage.migrated_since(live, chosen):
        text = f"migration {live.migration} is in the database, and not in {chosen.point.path.name}"
        yield Seen(text, live.migrations_table)


def _proposals(case: Case) -> list[Proposal]:
    evidence, server = case.evidence, case.evidence.server
    if server.error:
        return [_reach(evidence)]
    if server.standby:
        return [_primary()]
    if case.emergency == "unfinished_run":
        return [_by_hand_run(case)]
    if server.access in ("closed", "refused"):
        return [_open(evidence)]
    found: list[Proposal] = []
    renamed = server.access == "missing" and bool(server.similar_names)
    chosen, asked = case.chosen, evidence.wish.chosen
    if renamed and not asked:
        found.append(_rename_back(evidence))
    if case.only_rights and not asked:
        found.append(_grant())
    automatic = asked or (case.broken and not renamed and not case.only_rights)
    if chosen is not None:
        found.append(_back_to(case, chosen, automatic))
    found += [_undo(case, automatic and chosen is None)] if server.kept and server.access == "open" else []
    if server.kept and server.access in ("missing", "invalid"):
        found.append(_rename_kept(evidence))
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


def _rename_kept(evidence: Evidence) -> Proposal:
    name = _identifier(evidence.name)
    kept = evidence.server.kept[0]
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


def _undo(case: Case, automatic: bool) -> Proposal:
    kept = case.evidence.server.kept[0]
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
        automatic=ours and (case.broken or case.evidence.wish.latest) and case.evidence.server.access == "open",
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


def _until(candidates: tuple[Candidate, ...], end: Candidate | None) -> list[Candidate]:
    found = []
    for candidate in candidates:
        if candidate is end:
            break
        found.append(candidate)
    return found


def _distance(newer: datetime, older: datetime) -> str:
    return ago(older, newer).removesuffix(" ago")


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _word(name: str) -> str:
    return "".join(c if c.isalnum() or c in "_-" else "_" for c in name)
