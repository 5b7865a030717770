"""The rights on PostgreSQL's own objects that a restored database keeps: those of the live database."""

from __future__ import annotations

from lastgood.errors import Failed
from lastgood.events import Caution, Emit
from lastgood.load.loaded import Loaded
from lastgood.load.repairs import Repaired, Rules
from lastgood.postgres.access import servers_own
from lastgood.postgres.server import Connection

WITHDRAWN = "it reaches beyond this database, and the live database does not grant it; it was revoked"


def follow_live(connection: Connection, rules: Rules, loaded: Loaded, emit: Emit) -> None:
    """Revoke the rights that the restore point gives and the live database does not. Raises Failed under strict
    rules."""
    if connection.info.parameter_status("is_superuser") != "on":
        return  # no other role can give such a right
    for right in servers_own.withdraw(connection, rules.server_rights):
        if rules.strict:
            raise Failed(
                f"cannot load {right}: it reaches beyond this database, and the live database does not grant it",
                hint="Without --strict it is revoked, and the report lists it.",
            )
        loaded.repaired.append(Repaired(what=str(right), why=WITHDRAWN, line=0))
        emit(Caution(f"{right}: {WITHDRAWN}"))
