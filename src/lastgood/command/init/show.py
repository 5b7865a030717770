"""The result of ``lastgood init``."""

from __future__ import annotations

from pathlib import Path

from lastgood.command.check.show import show_grants
from lastgood.command.init.survey import InitSurvey
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units


def show(screen: Screen, found: InitSurvey, file: Path, *, password_left_out: bool) -> None:
    """Print the database, its roles, the obstacles to a rollback, and the next command."""
    screen.say(f'Wrote "{file}" for the database "{found.database}".', style="bold")
    rights = [
        "superuser" if found.superuser else "",
        "CREATEDB" if found.may_create_databases and not found.superuser else "",
        "member of the owner" if found.acts_as_owner and not found.superuser else "",
    ]
    size = f", {units.size(found.size)}" if found.size is not None else ""
    screen.pairs(
        [
            ("Server", f"PostgreSQL {found.server_version}{' (standby)' if found.standby else ''}"),
            ("Database", f"{found.database}, owned by {found.owner}{size}"),
            ("Role", f"{found.role}: {', '.join(right for right in rights if right) or 'no special privileges'}"),
            ("Migrations", found.migrations or "no table of a known migration tool"),
            ("Rollback", found.rollback),
            ("Poolers", ", ".join(found.poolers)),
        ]
    )
    if found.application_roles:
        screen.heading("Application roles")
        columns = (
            TableColumn("role", fold=True),
            TableColumn("tables", right=True),
            TableColumn("sessions now", right=True),
        )
        screen.table(columns, [(r.name, str(r.tables), str(r.sessions)) for r in found.application_roles])
    if found.obstacles:
        screen.heading("Obstacles to a rollback")
        for text in found.obstacles:
            screen.say(text, first="  - ", indent=4)
    show_grants(screen, found.grants)
    if password_left_out:
        screen.heading("The password was not written. Put it in ~/.pgpass or the variable PGPASSWORD.")
    screen.heading("Next: lastgood backup")
