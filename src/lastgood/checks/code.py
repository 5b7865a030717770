"""The role with whose privileges code of a restore point runs while it is restored."""

from __future__ import annotations

from lastgood.dump.summary import DumpSummary
from lastgood.plan.plan import CodeRun
from lastgood.postgres.server import Connection


def code_run(connection: Connection, summary: DumpSummary) -> CodeRun | None:
    """The code of a restore point and its role, which is that of ``connection``; None where it has no code."""
    if not summary.code:
        return None
    row = connection.execute(
        "SELECT rolname::text, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
    ).fetchone()
    assert row is not None, "the current role is one of the roles"
    return CodeRun(constructs=dict(sorted(summary.code.items())), role=row[0], superuser=row[1])
