"""The role with whose privileges code of a restore point runs while it is restored."""

from __future__ import annotations

from collections.abc import Iterator

from lastgood.checklist import Finding
from lastgood.checks.subject import Subject
from lastgood.dump.summary import DumpSummary
from lastgood.errors import NOT_REACHED, Refused
from lastgood.facts import Facts
from lastgood.in_place.definitions.against_facts import schemas_of
from lastgood.in_place.definitions.sorting import event_triggers, placed
from lastgood.load import by_operator
from lastgood.load.repairs import what
from lastgood.plan.plan import CodePolicy, CodeRun
from lastgood.postgres.roles import build_role, lent_role
from lastgood.postgres.roles.strength import strength
from lastgood.postgres.server import Connection, only_row
from lastgood.text.units import counted, listed

SHOWN = 10


def second_login(s: Subject) -> Iterator[Finding]:
    """The login of the role that executes code of the restore point."""
    if s.summary is None or s.facts is None:
        return
    run = code_run(s.maintenance, s.summary, s.request.code)
    if run is None or not run.confined:
        return
    try:
        if s.request.code.build_as is not None:
            lent_role.verify(s.maintenance, s.request.target, s.request.code.build_as, run=s.request.run)
        else:
            build_role.probe(s.maintenance, s.request.target, s.database.name)
        for name in _always(s, s.summary):
            yield Finding(
                level="refusal",
                code="code_needs_rights",
                text=f'event trigger "{name}" is enabled as ALWAYS: in place it would run as superuser '
                f'"{s.live.info.user}"',
                hint=f"Roll back by name. {TRUST}",
                known="looked up",
                final=True,
            )
        if needing := beyond(s.maintenance, s.summary, s.facts, within=going(s)):
            yield Finding(
                level="refusal", code="code_needs_rights", text=needing, hint=TRUST, known="tried", final=True
            )
    except build_role.NoSecondLogin as error:
        constructs = ", ".join(f"{count} × {kind}" for kind, count in run.constructs.items())
        why = "; ".join(each.strip() for each in error.message.splitlines())
        yield Finding(
            level="refusal",
            code="no_second_login",
            text=f"{why}; code in it: {constructs}, and any function of the server that these call; "
            f"this role is {strength(s.maintenance) or 'not a superuser'}",
            hint=error.hint,
            known="tried",
            final=True,
        )


TRUST = "If you trust the restore point's code, load it with your own rights: --trust-code REASON"


def _always(s: Subject, summary: DumpSummary) -> list[str]:
    """The event triggers, of the live database and of the restore point, that a superuser's commands in place would
    fire. From 17 on, its sessions fire none; before, none but these."""
    superuser = s.live.info.parameter_status("is_superuser") == "on"
    schemas = going(s)
    if schemas is None or not superuser or s.live.info.server_version >= 170000:
        return []
    query = "SELECT evtname::text FROM pg_catalog.pg_event_trigger WHERE evtenabled = 'A'"
    restored = {each.name for each in event_triggers(placed(summary), schemas) if each.enabled == "A"}
    return sorted({name for (name,) in s.live.execute(query)} | restored)


def going(s: Subject) -> frozenset[str] | None:
    """The schemas that go back in place; None by name."""
    if s.in_place is None or s.facts is None:
        return None
    return frozenset({*s.in_place.capabilities.schemas, *schemas_of(s.facts)} - s.staying)


def beyond(connection: Connection, summary: DumpSummary, facts: Facts, *, within: frozenset[str] | None = None) -> str:
    """The objects of a restore point that only a superuser can create, in words; empty if there are none. ``within``:
    only those in these schemas."""
    items = summary.script.items
    if within is not None:
        items = [each.step for each in placed(summary) if each.schema in within]
    found = [what(each) for each in by_operator.beyond(connection, items, facts.languages)]
    if not found:
        return ""
    objects = counted(len(found), "object")
    return f"a role without rights cannot create {objects} of the restore point: {listed(found, SHOWN)}"


def require(connection: Connection, summary: DumpSummary, facts: Facts, point: str, run: CodeRun | None) -> None:
    """Raise Refused if a role without rights is to build a restore point and cannot."""
    if run is not None and run.confined and (needing := beyond(connection, summary, facts)):
        raise Refused(f'cannot restore "{point}": {needing}', hint=TRUST, state=NOT_REACHED)


def code_run(connection: Connection, summary: DumpSummary, policy: CodePolicy) -> CodeRun | None:
    """The code of a restore point and the role that executes it, a role without rights unless it is trusted; None where
    it has no code. ``connection``: a session of the operator."""
    if not summary.code:
        return None
    constructs = dict(sorted(summary.code.items()))
    if not policy.trusted:
        return CodeRun(constructs=constructs, role="", superuser=False)
    row = only_row(connection, "SELECT rolname::text, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")
    return CodeRun(constructs=constructs, role=row[0], superuser=row[1], trusted=policy.trusted)
