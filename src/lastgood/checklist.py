"""The checklist before a rollback, as data: its items, the results for each, and the verdict.

Results are measured where possible, and otherwise attested by a named person. A failed item refuses the rollback unless
an operator overrides it and gives a reason; some cannot be overridden."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from lastgood.errors import NOT_REACHED, UsageError
from lastgood.models import Frozen

Level = Literal["refusal", "caution", "note"]
Status = Literal["PASS", "WARN", "FAIL"]
Verdict = Literal["GO", "GO WITH WARNINGS", "NO-GO"]
# The source of a result: the figure itself; a trial that was rolled back; the catalogue or a file; none.
Known = Literal["measured", "tried", "looked up", "unknown"]

_STATUS: dict[Level, Status] = {"refusal": "FAIL", "caution": "WARN", "note": "PASS"}
_WORST: tuple[Status, ...] = ("FAIL", "WARN", "PASS")
BACKUP = "emergency_backup"
EXTENSIONS = "extensions"
OTHER_WAY = "other_way"
"""The code of a finding about the way to switch that was not chosen."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item. ``name`` is stable: it is used in ``--override`` and in records."""

    name: str
    title: str


ITEMS: tuple[Item, ...] = (
    Item("restore_point", "Restore point"),
    Item("room", "Disk space"),
    Item(BACKUP, "Emergency backup"),
    Item("privileges", "Credentials and privileges"),
    Item("versions", "Versions and programs"),
    Item("in_place", "Exchange in place"),
    Item(EXTENSIONS, "Extension contents outside dumps"),
    Item("holders", "Slots, prepared transactions and other holders"),
    Item("sessions", "Sessions"),
    Item("application", "Hooks, health and poolers"),
    Item("rehearsal", "Rehearsal and duration"),
)


class Finding(Frozen):
    """A result against the rollback: ``refusal`` stops the run before it begins, ``caution`` does not.

    ``item`` is that of the checklist. ``final``: it cannot be overridden, since the run would fail or do harm.
    """

    level: Level
    code: str
    text: str
    hint: str = ""
    item: str = ""
    known: Known = "looked up"
    final: bool = False


def remedy(refusal: Finding, every: Iterable[Finding], what: str) -> str:
    """The hint of an error for a refusal: its own, the other way to switch, and the override; ``what`` is the start of
    the sentence about it."""
    sentences: list[str] = []
    sentences += [f"{each.text[0].upper()}{each.text[1:]}" for each in every if each.code == OTHER_WAY]
    if refusal.item and not refusal.final:
        sentences.append(f"{what}: --override {refusal.item} --reason TEXT")
    if refusal.hint and sentences:
        return ". ".join([refusal.hint.rstrip("."), *sentences])
    return refusal.hint or ". ".join(sentences)


class Passed(Frozen):
    """The result of a check that passed."""

    text: str
    item: str = ""
    known: Known = "looked up"


class Override(Frozen):
    """An operator's decision to continue in spite of an item, with the reason."""

    item: str
    reason: str
    by: str
    at: datetime


class Attestation(Frozen):
    """A person's confirmation of an item that cannot be measured: ``name`` attests ``item``."""

    item: str
    name: str
    at: datetime


class Line(Frozen):
    """One result for an item. ``known`` is its source, ``hint`` the remedy."""

    status: Status
    text: str
    known: str
    hint: str = ""


class ItemResult(Frozen):
    """An item with its results, the worst first. ``can_override``: whether --override would turn its FAIL into a
    WARN."""

    name: str
    title: str
    status: Status
    lines: tuple[Line, ...]
    can_override: bool = True
    override: Override | None = None
    attestation: Attestation | None = None


class Checklist(Frozen):
    """The whole checklist. ``overrides`` and ``attestations`` are all that were given."""

    verdict: Verdict = "GO"
    items: tuple[ItemResult, ...] = ()
    overrides: tuple[Override, ...] = ()
    attestations: tuple[Attestation, ...] = ()

    def override(self, item: str) -> Override | None:
        """The override given for an item, needed or not."""
        return next((each for each in self.overrides if each.item == item), None)

    def refuses(self, finding: Finding) -> bool:
        """Whether the finding stops the run in spite of overrides."""
        return finding.level == "refusal" and (finding.final or self.override(finding.item) is None)

    def names(self, status: Status) -> tuple[str, ...]:
        """The names of the items with that status."""
        return tuple(each.name for each in self.items if each.status == status)


def checklist(
    results: Iterable[Finding | Passed],
    people: Sequence[str] = (),
    overrides: Sequence[Override] = (),
    attestations: Sequence[Attestation] = (),
) -> Checklist:
    """The checklist of results. ``people``: the items that only people can confirm.

    An attestation of an item that was measured has no effect. Raises UsageError: see ``check_names``.
    """
    results = list(results)
    check_names(overrides, attestations, people)
    given = Checklist(overrides=tuple(overrides), attestations=tuple(attestations))
    items = [_checked(each, [result for result in results if result.item == each.name], given) for each in ITEMS]
    items = [each for each in items if each.lines]
    items += [_attested(name, given) for name in people]
    statuses = {each.status for each in items}
    verdict: Verdict = "NO-GO" if "FAIL" in statuses else "GO WITH WARNINGS" if "WARN" in statuses else "GO"
    return given.model_copy(update={"verdict": verdict, "items": tuple(items)})


def check_names(overrides: Iterable[Override], attestations: Iterable[Attestation], people: Sequence[str]) -> None:
    """Raise UsageError for an override or an attestation of an unknown item."""
    names = [each.name for each in ITEMS]
    for override in overrides:
        if override.item not in names:
            raise UsageError(
                f'cannot override "{override.item}": no such checklist item',
                hint=f"{_near(override.item, names)}Choose one of: {', '.join(names)}.",
                state=NOT_REACHED,
            )
    for each in attestations:
        if each.item not in (*names, *people):
            raise UsageError(
                f'cannot attest "{each.item}": no such checklist item',
                hint=f"{_near(each.item, (*names, *people))}Choose one of: {', '.join((*names, *people))}. Add your "
                "own items in lastgood.toml: [check] attested.",
                state=NOT_REACHED,
            )


def _near(name: str, names: Sequence[str]) -> str:
    return "".join(f"Did you mean {each}? " for each in difflib.get_close_matches(name, names, 1))


def _checked(item: Item, results: Sequence[Finding | Passed], given: Checklist) -> ItemResult:
    override = given.override(item.name)
    attestation = next((each for each in given.attestations if each.item == item.name), None)
    unknown = [each for each in results if each.known == "unknown"]
    lines = [_line(each, override, attestation) for each in results]
    if item.name == BACKUP and override is not None:
        text = f"no emergency backup will be made: overridden by {override.by} ({override.reason})"
        lines.append(Line(status="WARN", text=text, known="as requested", hint="The replaced database itself is kept."))
    lines.sort(key=lambda line: _WORST.index(line.status))
    refusals = [each for each in results if isinstance(each, Finding) and each.level == "refusal"]
    return ItemResult(
        name=item.name,
        title=item.title,
        status=lines[0].status if lines else "PASS",
        lines=tuple(lines),
        can_override=not any(each.final for each in refusals),
        override=override,
        attestation=attestation if unknown else None,
    )


def _line(result: Finding | Passed, override: Override | None, attestation: Attestation | None) -> Line:
    if isinstance(result, Passed):
        return Line(status="PASS", text=result.text, known=result.known)
    if result.known == "unknown" and attestation is not None:
        return Line(status="PASS", text=result.text, known=f"attested by {attestation.name}")
    status = _STATUS[result.level]
    if status == "FAIL" and override is not None:
        if result.final:
            return Line(
                status="FAIL",
                text=f"{result.text} (this cannot be overridden: the rollback would fail)",
                known=result.known,
                hint=result.hint,
            )
        text = f"{result.text} (overridden by {override.by}: {override.reason})"
        return Line(status="WARN", text=text, known=result.known, hint=result.hint)
    return Line(status=status, text=result.text, known=result.known, hint=result.hint)


def _attested(name: str, given: Checklist) -> ItemResult:
    """An item that only people can confirm."""
    attestation = next((each for each in given.attestations if each.item == name), None)
    if attestation is None:
        line = Line(
            status="WARN",
            text="not confirmed yet",
            known="unknown",
            hint=f'Confirm it with your name: --attest "{name}=NAME"',
        )
    else:
        line = Line(status="PASS", text=f"confirmed by {attestation.name}", known=f"attested by {attestation.name}")
    return ItemResult(
        name=name, title=name[:1].upper() + name[1:], status=line.status, lines=(line,), attestation=attestation
    )
