"""What was found while the rows of the live tables were counted, which only a plan does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg

from lastgood.checklist import BACKUP, Finding, Seen
from lastgood.plan.plan import TableLoss

SHOWN = 5


def refused(live: str, error: psycopg.Error, looked: Sequence[Finding | Seen]) -> Iterator[Finding]:
    """What the check of privileges did not foresee (a policy, say)."""
    if not any(isinstance(each, Finding) and each.code in ("cannot_read", "rows_hidden") for each in looked):
        yield Finding(
            level="refusal",
            code="cannot_read",
            text=f'this role can\'t read all of "{live}": {error.diag.message_primary}',
            hint="Connect as a superuser, or as the owner of its tables with the attribute BYPASSRLS.",
            item=BACKUP,
            known="tried",
        )


def told(lost: Sequence[TableLoss]) -> Iterator[Finding]:
    """What was seen while the live tables were counted."""
    gone = [each for each in lost if each.point_rows is None]
    if len(gone) > len(lost) // 2:
        yield Finding(
            level="caution",
            code="tables_go_away",
            text=f"the restore point lacks {len(gone)} of the {len(lost)} tables here: is it a dump of some tables "
            "only?",
            item="restore_point",
            known="measured",
        )
    damaged = [each for each in lost if each.unreadable]
    if damaged:
        names = ", ".join(f"{each.schema_name}.{each.name}" for each in damaged[:SHOWN])
        more = f" and {len(damaged) - SHOWN} more" if len(damaged) > SHOWN else ""
        yield Finding(
            level="refusal",
            code="damaged_tables",
            text=f"the live database is damaged, and no backup of it can be made: the server can't read {names}{more} "
            f"({damaged[0].unreadable})",
            hint="The replaced database itself is kept, as it is.",
            item=BACKUP,
            known="tried",
        )
