"""Findings from counting the rows of the live tables, which only a plan does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg

from lastgood.checklist import BACKUP, Finding, Passed
from lastgood.plan.loss import TableLoss
from lastgood.text.units import listed

SHOWN = 5


def refused(live: str, error: psycopg.Error, results: Sequence[Finding | Passed]) -> Iterator[Finding]:
    """A refusal that the check of privileges did not foresee (for example, a policy)."""
    if not any(isinstance(each, Finding) and each.code in ("cannot_read", "rows_hidden") for each in results):
        yield Finding(
            level="refusal",
            code="cannot_read",
            text=f'this role cannot read all of "{live}": {error.diag.message_primary}',
            hint="Connect as a superuser, or as the owner of its tables with the attribute BYPASSRLS.",
            item=BACKUP,
            known="tried",
        )


def findings(losses: Sequence[TableLoss]) -> Iterator[Finding]:
    """Tables that the restore point lacks, and damaged ones."""
    missing = [each for each in losses if each.point_rows is None]
    if len(missing) > len(losses) // 2:
        yield Finding(
            level="caution",
            code="tables_missing",
            text=f"the restore point lacks {len(missing)} of the {len(losses)} live tables: it may be a dump of some "
            "tables only",
            item="restore_point",
            known="measured",
        )
    damaged = [each for each in losses if each.unreadable]
    if damaged:
        names = listed((f"{each.schema_name}.{each.name}" for each in damaged), SHOWN)
        yield Finding(
            level="refusal",
            code="damaged_tables",
            text=f"cannot back up the live database, which is damaged: the server cannot read {names} "
            f"({damaged[0].unreadable})",
            hint="The replaced database itself is kept unchanged.",
            item=BACKUP,
            known="tried",
        )
