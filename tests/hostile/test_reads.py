"""Code in a live database, in each command that only reads it as a superuser: no attack succeeds."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.conftest import Construct, Field
from tests.hostile.test_constructs import EACH, ENDS, lastgood

# A new command is one line.
COMMANDS: dict[str, tuple[str, ...]] = {
    "facts": ("facts",),
    "facts of both": ("facts", "planted.sql", "--live"),
    "backup": ("backup",),
    "validate": ("validate",),
    "validate in full": ("validate", "--full"),
    "diff": ("diff", "planted.sql"),
    "check": ("check", "planted.sql"),
    "check, thorough": ("check", "planted.sql", "--thorough"),
    "status": ("status",),
    "recover": ("recover", "--dry-run", "--thorough"),
    "rollback, dry": ("rollback", "planted.sql", "--dry-run"),
    "guide": ("guide", "--output", "-"),
    "points": ("points",),
    "salvage": ("salvage",),
}


@ENDS
@EACH
def test_reading(field: Field, store: Path, construct: Construct) -> None:
    if not field.can_run(construct):
        return
    field.plant(construct, store)
    found = {}
    for name, arguments in COMMANDS.items():
        done = lastgood(field, store, *arguments)
        assert "Traceback" not in done.stderr
        if successes := field.successes(field.live):
            found[name] = (successes, done.stdout + done.stderr)
            break  # what it made would count for each of the others
    assert found == {}
