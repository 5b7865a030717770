"""Changes to extensions that no dump holds: those put back or copied, and those left in the kept database only."""

from __future__ import annotations

from collections.abc import Iterator

from lastgood.checklist import Finding, Passed
from lastgood.checks.subject import Subject
from lastgood.errors import OR_TRUST
from lastgood.members import untrusted


def members(s: Subject) -> Iterator[Finding | Passed]:
    """Altered members of extensions, and objects that depend on them."""
    survey, withheld = s.extension_changes, s.withheld
    for name in dict.fromkeys(each.extension for each in withheld):
        yield Finding(
            level="refusal",
            code="changes_not_trusted",
            text=untrusted.why(withheld, name),
            hint=OR_TRUST,
        )
    survey = survey.model_copy(update={"departures": untrusted.others(survey, withheld)})
    for name in survey.extensions:
        if unrestorable := survey.summary(name, carried=False):
            yield Finding(
                level="refusal",
                code="changes_not_restored",
                text=f'no dump holds the changes to extension "{name}", and lastgood cannot restore them: '
                f"{unrestorable}",
                hint="Copy these changes by hand from the kept database after the switch: lastgood status names it.",
            )
        if restorable := survey.summary(name, carried=True, rows=False):
            source = "from the manifest" if _own(s) else "from the live database"
            yield Finding(
                level="caution",
                code="changes_restored",
                text=f'no dump holds the changes to extension "{name}"; they are restored {source}: {restorable}',
            )
    for unknown in survey.unknown:
        yield Finding(
            level="caution",
            code="extension_unknown",
            text=f'cannot determine whether extension "{unknown.extension}" was changed: {unknown.why}',
            hint="Compare the extension's objects by hand: no dump holds changes to them.",
            known="unknown",
        )
    if survey == type(survey)() and not withheld:
        yield Passed(text="no object of an extension was changed")


def rows(s: Subject) -> Iterator[Finding]:
    """Rows in tables of extensions that no dump contains."""
    created = {each.name for each in s.facts.extensions} if s.facts is not None else set()
    for each in s.members.rows:
        if each.extension in created:
            yield Finding(
                level="caution",
                code="rows_copied",
                text=f'no dump holds rows of extension "{each.extension}": {each}; they are copied from the live '
                "database as they are now",
                known="measured",
            )
        elif s.facts is not None:
            yield Finding(
                level="caution",
                code="rows_stay",
                text=f'no dump holds rows of extension "{each.extension}", which the restore point does not create: '
                f"{each}; they remain only in the kept database",
                known="measured",
            )


def _own(s: Subject) -> bool:
    return s.point is not None and s.point.manifest is not None and s.point.manifest.members is not None
