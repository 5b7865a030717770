"""Conclusions from the evidence: which restore points qualify, which is chosen, what is damaged, and the emergency.

The emergency is the first of these that holds: the server is unreachable; an unfinished run of lastgood is in the way;
the live database is closed; there is no restore point; the newest restore point is damaged; the live database is
missing; it is in an unknown state; or it looks complete, and an older state is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath

from lastgood.command.recover import damage
from lastgood.command.recover.evidence import Candidate, Evidence
from lastgood.command.recover.report import Emergency
from lastgood.points import predates_migration
from lastgood.status import UnfinishedDeployment


@dataclass(frozen=True)
class Case:
    """The evidence and the conclusions from it."""

    evidence: Evidence

    @cached_property
    def suspects(self) -> dict[int, str]:
        """Candidates that were made after the damage, by position, with the reason for that conclusion."""
        live, all_ = self.evidence.live, self.evidence.candidates
        found: dict[int, str] = {}
        deployment, before = self.deployment, self.before_deployment
        if deployment is not None and before is not None:
            for place, candidate in enumerate(all_):
                if candidate is before:
                    return found  # verified, and made before the migration changed anything
                found[place] = f"the migration of deployment {deployment.run} had started"
        if live is None:
            return {}
        for place, candidate in enumerate(all_):
            why = damage.made_after(candidate, all_[place + 1 :], live)
            if why:
                found[place] = why
            elif candidate.usable:
                break  # this one was made before the damage, so all older ones were, too
        return found

    @property
    def deployment(self) -> UnfinishedDeployment | None:
        """A deployment that was killed. A running one finishes or rolls back by itself."""
        found = self.evidence.server.deployment
        return found if found is not None and not self.evidence.server.working else None

    @cached_property
    def before_deployment(self) -> Candidate | None:
        """The restore point of the killed deployment, found by file name: the folder may differ on another machine."""
        if self.deployment is None:
            return None
        name = PurePath(self.deployment.point).name
        return next((each for each in self.evidence.candidates if each.point.path.name == name), None)

    @cached_property
    def without_effect(self) -> dict[int, str]:
        """Candidates that would change nothing, by position, with the reason: the newest ones, equal to the database as
        it is now. Empty if there is no other candidate."""
        found: dict[int, str] = {}
        for place, candidate in enumerate(self.evidence.candidates):
            if place in self.suspects or not candidate.usable:
                continue
            why = self.same_as_now(place)
            if not why:
                return found
            found[place] = why
        return {}

    def same_as_now(self, place: int) -> str:
        """Return why a rollback to that candidate would change nothing; empty without evidence."""
        candidate = self.evidence.candidates[place]
        live, manifest = self.evidence.live, candidate.point.manifest
        if live is None or candidate.facts is None or self.deployment is not None:
            return ""
        if damage.equal(live, candidate.facts, place):
            return "it equals the current database"
        note = manifest.deployment if manifest is not None else None
        if note is None or note.outcome != "changed nothing":
            return ""
        reference = damage.DamageReference.of(candidate)
        finishing = bool(self.evidence.server.finishing)
        if any(sign.decisive for sign in damage.signs(live, reference, finishing=finishing)):
            return ""  # the damage happened after it
        return f"it was made for deployment {note.run}, which changed nothing"

    @cached_property
    def fitting(self) -> tuple[Candidate, ...]:
        """Candidates that match the operator's request, valid or not; newest first."""
        goal = self.evidence.goal
        return tuple(
            candidate
            for place, candidate in enumerate(self.evidence.candidates)
            if place not in self.suspects
            and (goal.chosen or place not in self.without_effect)
            and (goal.before is None or candidate.point.made_at < goal.before)
            and (goal.before_migration is None or predates_migration(candidate.migration, goal.before_migration))
        )

    @cached_property
    def chosen(self) -> Candidate | None:
        """The newest usable candidate that matches."""
        return next((candidate for candidate in self.fitting if candidate.usable), None)

    @cached_property
    def damaged_before(self) -> tuple[Candidate, ...]:
        """The matching candidates that are newer than the chosen one, but damaged."""
        return tuple(candidate for candidate in _until(self.fitting, self.chosen) if not candidate.usable)

    @cached_property
    def signs(self) -> tuple[damage.Sign, ...]:
        """The signs of damage in the live database."""
        if self.evidence.live is None:
            return ()
        return damage.signs(self.evidence.live, self.reference, finishing=bool(self.evidence.server.finishing))

    @cached_property
    def reference(self) -> damage.DamageReference | None:
        """The newest restore point before the damage whose content is known."""
        known = [each for place, each in enumerate(self.evidence.candidates) if place not in self.suspects]
        for candidate in (*known, *self.evidence.elsewhere):
            if candidate.usable and candidate.facts is not None:
                return damage.DamageReference.of(candidate)
        return None

    @property
    def broken(self) -> bool:
        """Whether the live database shows otherwise unexplained damage."""
        gone = self.evidence.server.access in ("missing", "invalid")
        return gone or self.deployment is not None or any(sign.decisive for sign in self.signs)

    @property
    def sound(self) -> bool:
        """Whether the live database was compared with a restore point and shows no damage."""
        compared = self.evidence.live is not None and self.reference is not None
        return compared and self.evidence.server.access == "open" and not self.broken

    @property
    def obstructed(self) -> bool:
        """Whether the database is in the application's way without damage: read-only, locked, or paused clients."""
        server, live = self.evidence.server, self.evidence.live
        return bool(server.read_only or server.paused or (live is not None and live.shut))

    @cached_property
    def rights_lost(self) -> bool:
        """Whether the application's privileges are lost, and the chosen restore point does not restore them."""
        gone = any(sign.decisive and sign.source == damage.RIGHTS for sign in self.signs)
        verdict = self.chosen.verdict if self.chosen is not None else None
        return gone and verdict is not None and verdict.has_acls is False

    @property
    def content_broken(self) -> bool:
        """Whether more is damaged than the privileges of roles."""
        gone = self.evidence.server.access in ("missing", "invalid")
        other = any(sign.decisive and sign.source != damage.RIGHTS for sign in self.signs)
        return gone or other or self.deployment is not None

    @property
    def only_rights(self) -> bool:
        """Whether lost privileges are the only damage, and a rollback would not restore them."""
        return self.rights_lost and not self.content_broken

    @cached_property
    def emergency(self) -> Emergency:
        """The emergency."""
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


def _until(candidates: tuple[Candidate, ...], end: Candidate | None) -> list[Candidate]:
    found = []
    for candidate in candidates:
        if candidate is end:
            break
        found.append(candidate)
    return found
