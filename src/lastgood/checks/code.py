"""The role with whose privileges code of a restore point runs while it is restored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

from lastgood.checklist import Finding, Level, Passed
from lastgood.checks.subject import Subject
from lastgood.dump.summary import DumpSummary
from lastgood.errors import NOT_REACHED, OR_TRUST, Refused
from lastgood.facts import Facts
from lastgood.in_place.definitions.against_facts import schemas_of
from lastgood.in_place.definitions.sorting import event_triggers, placed
from lastgood.load import by_operator
from lastgood.load.builder import CHOOSE_ANOTHER, SETS_ROLE, sets_role
from lastgood.load.repairs import what
from lastgood.plan.plan import CodePolicy, CodeRun
from lastgood.postgres.roles import build_role, lent_role
from lastgood.postgres.roles.second_login import CANNOT, NoSecondLogin
from lastgood.postgres.server import Connection, Target, only_row
from lastgood.text.units import counted, listed

SHOWN = 10


def second_login(s: Subject) -> Iterator[Finding | Passed]:
    """The login of the role that executes code of the restore point. Where that was not read, its manifest tells
    whether it has code, or else the live database."""
    if s.summary is None or s.facts is None:
        if not s.request.code.trusted and (expected := _expected(s)):
            try:
                try_login(s.maintenance, s.request.target, s.request.code, run=s.request.run)
            except NoSecondLogin as error:
                has_manifest = s.point is not None and s.point.manifest is not None
                yield _no_login(error, expected, level="refusal" if has_manifest else "caution")
        return
    run = code_run(s.maintenance, s.summary, s.request.code)
    if run is None or not run.confined:
        return
    if s.in_place is None and sets_role(s.summary.script.items):
        yield Finding(
            level="refusal",
            code="code_sets_role",
            text=f"{CANNOT}: {SETS_ROLE}",
            hint=CHOOSE_ANOTHER,
            final=True,
        )
    for name, state in _unstoppable(s, s.summary):
        yield Finding(
            level="refusal",
            code="code_needs_rights",
            text=f'event trigger "{name}" is enabled as {state}: in place it would run as role "{s.live.info.user}"',
            hint=f"Roll back by name: --by-name. {OR_TRUST}",
            known="looked up",
            final=True,
        )
    if needing := beyond(s.maintenance, s.summary, s.facts, within=going(s)):
        yield Finding(level="refusal", code="code_needs_rights", text=needing, hint=OR_TRUST, known="tried", final=True)
    try:
        try_login(s.maintenance, s.request.target, s.request.code, run=s.request.run)
    except NoSecondLogin as error:
        yield _no_login(error, _would_run(s, run))
    else:
        yield Passed(text="a role without rights can log in and run code of the restore point", known="tried")


def try_login(maintenance: Connection, target: Target, policy: CodePolicy, *, run: str | None = None) -> None:
    """Make a role, log in and drop it; or verify the role of ``build_as``. ``target``: the live database. Raises
    NoSecondLogin."""
    if policy.build_as is not None:
        lent_role.verify(maintenance, target, policy.build_as, run=run)
    else:
        build_role.probe(maintenance, target, target.dbname)


def _no_login(error: NoSecondLogin, code: str, *, level: Level = "refusal") -> Finding:
    refused = f"the server refuses a login for the role without rights: {'; '.join(error.tried)}"
    return Finding(
        level=level,
        code="no_second_login",
        text=f"{refused if error.tried else error.why}; {code}",
        hint=error.hint,
        known="tried",
        final=level == "refusal",
    )


def _expected(s: Subject) -> str:
    """What code a restore point has that was not read, in words; empty if none is known."""
    if s.point is not None and s.point.manifest is not None:
        counts = s.point.manifest.facts.object_counts
        found = {kind: counts[kind] for kind in ALWAYS_CODE if counts.get(kind)}
        return _would_run(s, CodeRun(constructs=found, role="", superuser=False)) if found else ""
    if s.live.execute(_LIVE_CODE).fetchone() is None:
        return ""
    return "a restore point with code would be refused, and the live database has functions"


# Kinds of objects that are code in every dump.
ALWAYS_CODE = ("aggregate", "event trigger", "function", "materialized view", "procedure", "trigger")
_LIVE_CODE: LiteralString = """
SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_depend d
  WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')
LIMIT 1
"""


def _would_run(s: Subject, run: CodeRun) -> str:
    """The code of a restore point, and the role of the operator."""
    superuser = s.live.info.parameter_status("is_superuser") == "on"
    counted = " and ".join(run.counted.rsplit(", ", 1))
    role = f'{"superuser" if superuser else "role"} "{s.live.info.user}"'
    return f"the restore point has {counted} that would run as {role}"


_STATES = {"A": "ALWAYS", "R": "REPLICA"}


def _unstoppable(s: Subject, summary: DumpSummary) -> list[tuple[str, str]]:
    """The event triggers, of the live database and of the restore point, that commands in place would fire, with their
    state. From 17 on, a superuser's sessions fire none. Others set session_replication_role, under which these fire.
    Those of superusers are no code of weaker roles."""
    superuser = s.live.info.parameter_status("is_superuser") == "on"
    schemas = going(s)
    if schemas is None or (superuser and s.live.info.server_version >= 170000):
        return []
    found: dict[str, str] = dict(s.live.execute(_LIVE_TRIGGERS, [superuser]).fetchall())
    found |= {each.name: each.enabled for each in event_triggers(placed(summary), schemas)}
    return sorted((name, _STATES[state]) for name, state in found.items() if state in _STATES)


_LIVE_TRIGGERS = """
SELECT e.evtname::text, e.evtenabled::text FROM pg_catalog.pg_event_trigger e
JOIN pg_catalog.pg_roles r ON r.oid = e.evtowner WHERE %s OR NOT r.rolsuper
"""


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
    if run is None or not run.confined:
        return
    if sets_role(summary.script.items):
        raise Refused(f'cannot restore "{point}": {SETS_ROLE}', hint=CHOOSE_ANOTHER, state=NOT_REACHED)
    if needing := beyond(connection, summary, facts):
        raise Refused(f'cannot restore "{point}": {needing}', hint=OR_TRUST, state=NOT_REACHED)


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
