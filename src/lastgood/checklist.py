"""The checklist before a rollback, as data: its items, what was found for each, and whether that is a GO.

What is found is measured where it can be measured, and attested by a named person where it can't. An item that speaks
against the rollback refuses it, unless somebody overrides it and says why; some can't be overridden.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from lastgood.errors import NOT_REACHED, UsageError
from lastgood.models import Frozen

Level = Literal["refusal", "caution", "note"]
Status = Literal["PASS", "WARN", "FAIL"]
Verdict = Literal["GO", "GO WITH WARNINGS", "NO-GO"]
# How a thing is known: the figure itself was read; it was done, and taken back; the catalogue or a file says so.
Known = Literal["measured", "tried", "looked up", "not known"]

_STATUS: dict[Level, Status] = {"refusal": "FAIL", "caution": "WARN", "note": "PASS"}
_WORST: tuple[Status, ...] = ("FAIL", "WARN", "PASS")
BACKUP = "emergency_backup"
EXTENSIONS = "extensions"


@dataclass(frozen=True, slots=True)
class Item:
    """One item. ``name`` is stable: it stands in ``--override`` and in records."""

    name: str
    title: str


ITEMS: tuple[Item, ...] = (
    Item("restore_point", "Restore point"),
    Item("room", "Room on disk"),
    Item(BACKUP, "Emergency backup"),
    Item("privileges", "Credentials and privileges"),
    Item("versions", "Versions and programs"),
    Item(EXTENSIONS, "What no dump holds of extensions"),
    Item("holders", "What holds on to the database"),
    Item("sessions", "Sessions"),
    Item("application", "Hooks, health and poolers"),
    Item("rehearsal", "Rehearsal and duration"),
)


class Finding(Frozen):
    """Something that the checks found: ``refusal`` stops the run before it begins, ``caution`` does not.

    ``item`` is that of the checklist. ``final``: no override helps, as the run would be bound to fail, or to do harm.
    """

    level: Level
    code: str
    text: str
    hint: str = ""
    item: str = ""
    known: Known = "looked up"
    final: bool = False


class Seen(Frozen):
    """Something that the checks found to be well."""

    text: str
    item: str = ""
    known: Known = "looked up"


class Override(Frozen):
    """Somebody's word that the run goes on in spite of an item, and why."""

    item: str
    reason: str
    by: str
    at: datetime


class Attestation(Frozen):
    """Somebody's word for what can't be measured: ``name`` answers for ``item``."""

    item: str
    name: str
    at: datetime


class Line(Frozen):
    """One thing that was found for an item. ``known`` says how, ``hint`` what to do about it."""

    status: Status
    text: str
    known: str
    hint: str = ""


class Checked(Frozen):
    """An item with what was found for it, the worst first. ``can_override``: whether --override would turn its FAIL
    into a WARN."""

    name: str
    title: str
    status: Status
    lines: tuple[Line, ...]
    can_override: bool = True
    override: Override | None = None
    attestation: Attestation | None = None


class Checklist(Frozen):
    """The whole of it. ``overrides`` and ``attestations`` are all that were given."""

    verdict: Verdict = "GO"
    items: tuple[Checked, ...] = ()
    overrides: tuple[Override, ...] = ()
    attestations: tuple[Attestation, ...] = ()

    def override(self, item: str) -> Override | None:
        """The override that was given for an item, whether it was needed or not."""
        return next((each for each in self.overrides if each.item == item), None)

    def stands(self, finding: Finding) -> bool:
        """Whether it still stops the run."""
        return finding.level == "refusal" and (finding.final or self.override(finding.item) is None)

    def names(self, status: Status) -> tuple[str, ...]:
        """The items of that status."""
        return tuple(each.name for each in self.items if each.status == status)


def checklist(
    found: Iterable[Finding | Seen],
    people: Sequence[str] = (),
    overrides: Sequence[Override] = (),
    attestations: Sequence[Attestation] = (),
) -> Checklist:
    """The checklist of what was found. ``people``: the items that only people can answer for.

    A word for what is measured after all changes nothing. Raises UsageError: see ``check_names``.
    """
    found = list(found)
    check_names(overrides, attestations, people)
    given = Checklist(overrides=tuple(overrides), attestations=tuple(attestations))
    items = [_checked(each, [one for one in found if one.item == each.name], given) for each in ITEMS]
    items = [each for each in items if each.lines]
    items += [_answered(name, given) for name in people]
    statuses = {each.status for each in items}
    verdict: Verdict = "NO-GO" if "FAIL" in statuses else "GO WITH WARNINGS" if "WARN" in statuses else "GO"
    return given.model_copy(update={"verdict": verdict, "items": tuple(items)})


def check_names(overrides: Iterable[Override], attestations: Iterable[Attestation], people: Sequence[str]) -> None:
    """Raises UsageError for an override of, or a word for, what is no item."""
    names = [each.name for each in ITEMS]
    for override in overrides:
        if override.item not in names:
            raise UsageError(
                f'cannot override "{override.item}": the checklist has no such item',
                hint=f"Its items: {', '.join(names)}.",
                state=NOT_REACHED,
            )
    for each in attestations:
        if each.item not in (*names, *people):
            raise UsageError(
                f'cannot take a word for "{each.item}": the checklist has no such item',
                hint=f"Its items: {', '.join((*names, *people))}. Those that only people can answer for stand under "
                "[check] in lastgood.toml, as attested.",
                state=NOT_REACHED,
            )


def _checked(item: Item, found: Sequence[Finding | Seen], given: Checklist) -> Checked:
    override = given.override(item.name)
    word = next((each for each in given.attestations if each.item == item.name), None)
    unknown = [each for each in found if each.known == "not known"]
    lines = [_line(each, override, word) for each in found]
    if item.name == BACKUP and override is not None:
        text = f"none will be made: overridden by {override.by} ({override.reason})"
        lines.append(Line(status="WARN", text=text, known="as asked for", hint="The replaced database itself is kept."))
    lines.sort(key=lambda line: _WORST.index(line.status))
    refusals = [each for each in found if isinstance(each, Finding) and each.level == "refusal"]
    return Checked(
        name=item.name,
        title=item.title,
        status=lines[0].status if lines else "PASS",
        lines=tuple(lines),
        can_override=not any(each.final for each in refusals),
        override=override,
        attestation=word if unknown else None,
    )


def _line(found: Finding | Seen, override: Override | None, word: Attestation | None) -> Line:
    if isinstance(found, Seen):
        return Line(status="PASS", text=found.text, known=found.known)
    if found.known == "not known" and word is not None:
        return Line(status="PASS", text=found.text, known=f"attested by {word.name}")
    status = _STATUS[found.level]
    if status == "FAIL" and override is not None:
        if found.final:
            return Line(
                status="FAIL",
                text=f"{found.text} (no override helps: the rollback would be bound to fail)",
                known=found.known,
                hint=found.hint,
            )
        text = f"{found.text} (overridden by {override.by}: {override.reason})"
        return Line(status="WARN", text=text, known=found.known, hint=found.hint)
    return Line(status=status, text=found.text, known=found.known, hint=found.hint)


def _answered(name: str, given: Checklist) -> Checked:
    """An item that only people can answer for."""
    word = next((each for each in given.attestations if each.item == name), None)
    if word is None:
        line = Line(
            status="WARN",
            text="nobody has answered for it",
            known="not known",
            hint=f'With a name: --attest "{name}=NAME"',
        )
    else:
        line = Line(status="PASS", text=f"{word.name} answers for it", known=f"attested by {word.name}")
    return Checked(name=name, title=name[:1].upper() + name[1:], status=line.status, lines=(line,), attestation=word)
