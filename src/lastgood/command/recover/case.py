"""What follows from the evidence, step by step: which restore points are meant, which is chosen, what is damaged, and
which emergency that makes.

The first of these that holds: the server does not answer; an unfinished run of lastgood stands in the way; the live
database is closed; there is nothing to go back to; the newest restore point is damaged; the live database is gone; it
is in a state that nobody chose; or it looks whole, and an older state is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath

from lastgood.command.recover import damage
from lastgood.command.recover.evidence import Candidate, Evidence
from lastgood.command.recover.report import Emergency
from lastgood.points import may_lack
from lastgood.status import UnfinishedDeployment


@dataclass(frozen=True)
class Case:
    """The evidence, and what follows from it step by step."""

    evidence: Evidence

    @cached_property
    def suspects(self) -> dict[int, str]:
        """Candidates that were made after the damage, by their place, and why one thinks so."""
        live, all_ = self.evidence.live, self.evidence.candidates
        found: dict[int, str] = {}
        deployment, before = self.deployment, self.before_deployment
        if deployment is not None and before is not None:
            for place, candidate in enumerate(all_):
                if candidate is before:
                    return found  # it was verified, and was made before the migration touched anything
                found[place] = f"the migration of deployment {deployment.run} had begun"
        if live is None:
            return {}
        for place, candidate in enumerate(all_):
            why = damage.made_after(candidate, all_[place + 1 :], live)
            if why:
                found[place] = why
            elif candidate.usable:
                break  # older ones were made before this one, which was made before the damage
        return found

    @property
    def deployment(self) -> UnfinishedDeployment | None:
        """A deployment that was killed. One that is at work settles that itself."""
        found = self.evidence.server.deployment
        return found if found is not None and not self.evidence.server.working else None

    @cached_property
    def before_deployment(self) -> Candidate | None:
        """The restore point that the killed deployment made. By its name: another machine may call the folder
        otherwise."""
        if self.deployment is None:
            return None
        name = PurePath(self.deployment.point).name
        return next((each for each in self.evidence.candidates if each.point.path.name == name), None)

    @cached_property
    def no_way_out(self) -> dict[int, str]:
        """Candidates by which nothing would be won, by their place, with the reason: the newest ones that have what the
        database has now. None where there is no other one."""
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
        """Why going back to that candidate would change nothing; empty without evidence."""
        candidate = self.evidence.candidates[place]
        live, manifest = self.evidence.live, candidate.point.manifest
        if live is None or candidate.facts is None or self.deployment is not None:
            return ""
        if damage.equal(live, candidate.facts, place):
            return "it equals the database as it is now"
        note = manifest.deployment if manifest is not None else None
        if note is None or note.outcome != "changed nothing":
            return ""
        reference = damage.Reference.of(candidate)
        finishing = bool(self.evidence.server.finishing)
        if any(sign.decisive for sign in damage.signs(live, reference, finishing=finishing)):
            return ""  # what broke the database came after it
        return f"deployment {note.run}, for which it was made, changed nothing"

    @cached_property
    def fitting(self) -> tuple[Candidate, ...]:
        """What one may go back to by what the operator asked for, whether it is sound or not; newest first."""
        wish = self.evidence.wish
        return tuple(
            candidate
            for place, candidate in enumerate(self.evidence.candidates)
            if place not in self.suspects
            and (wish.chosen or place not in self.no_way_out)
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
        return damage.signs(self.evidence.live, self.reference, finishing=bool(self.evidence.server.finishing))

    @cached_property
    def reference(self) -> damage.Reference | None:
        """The newest restore point before the damage whose content is known."""
        known = [each for place, each in enumerate(self.evidence.candidates) if place not in self.suspects]
        for candidate in (*known, *self.evidence.elsewhere):
            if candidate.usable and candidate.facts is not None:
                return damage.Reference.of(candidate)
        return None

    @property
    def broken(self) -> bool:
        """Whether the live database shows damage that nothing else explains."""
        gone = self.evidence.server.access in ("missing", "invalid")
        return gone or self.deployment is not None or any(sign.decisive for sign in self.signs)

    @cached_property
    def rights_lost(self) -> bool:
        """Whether the application's rights are gone, and the chosen restore point does not bring them back."""
        gone = any(sign.decisive and sign.source == damage.RIGHTS for sign in self.signs)
        verdict = self.chosen.verdict if self.chosen is not None else None
        return gone and verdict is not None and verdict.has_acls is False

    @property
    def content_broken(self) -> bool:
        """Whether more is damaged than the rights of roles."""
        gone = self.evidence.server.access in ("missing", "invalid")
        other = any(sign.decisive and sign.source != damage.RIGHTS for sign in self.signs)
        return gone or other or self.deployment is not None

    @property
    def only_rights(self) -> bool:
        """Whether lost rights are all that is wrong, and going back would not mend that."""
        return self.rights_lost and not self.content_broken

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


def _until(candidates: tuple[Candidate, ...], end: Candidate | None) -> list[Candidate]:
    found = []
    for candidate in candidates:
        if candidate is end:
            break
        found.append(candidate)
    return found
