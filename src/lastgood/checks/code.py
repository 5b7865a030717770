"""The role with whose privileges code of a restore point runs while it is restored."""

from __future__ import annotations

from collections.abc import Iterator

from lastgood.checklist import Finding
from lastgood.checks.subject import Subject
from lastgood.dump.summary import DumpSummary
from lastgood.plan.plan import CodeRun
from lastgood.postgres import build_role
from lastgood.postgres.server import Connection


def second_login(s: Subject) -> Iterator[Finding]:
    """The login of the role that is made for the run, and that executes code of the restore point."""
    if s.summary is None or not s.summary.code or not s.request.confine_code:
        return
    if s.in_place is not None:
        yield Finding(
            level="refusal",
            code="not_confined_in_place",
            text="code of the restore point cannot run as a role without rights in place",
            hint="If you trust the code, omit --confine-code",
            known="tried",
            final=True,
        )
        return
    try:
        build_role.probe(s.maintenance, s.request.target, s.database.name)
    except build_role.NoSecondLogin as error:
        constructs = ", ".join(f"{count} × {kind}" for kind, count in sorted(s.summary.code.items()))
        yield Finding(
            level="refusal",
            code="no_second_login",
            text=f"{error.message}; code in it: {constructs}, and any function of the server that these call",
            hint=error.hint,
            known="tried",
            final=True,
        )


def code_run(connection: Connection, summary: DumpSummary, *, apart: bool) -> CodeRun | None:
    """The code of a restore point and the role that executes it; None where it has no code. ``apart``: a role without
    rights that is made for the run, instead of ``connection``'s."""
    if not summary.code:
        return None
    constructs = dict(sorted(summary.code.items()))
    if apart:
        return CodeRun(constructs=constructs, role="", superuser=False)
    row = connection.execute(
        "SELECT rolname::text, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
    ).fetchone()
    assert row is not None, "the current role is one of the roles"
    return CodeRun(constructs=constructs, role=row[0], superuser=row[1])
