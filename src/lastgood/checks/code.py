"""The role with whose privileges code of a restore point runs while it is restored."""

from __future__ import annotations

from lastgood.dump.summary import DumpSummary
from lastgood.plan.plan import CodeRun
from lastgood.postgres.server import Connection


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
