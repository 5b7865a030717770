"""Code in a live database, in each command that only reads it as a superuser: no attack succeeds."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.conftest import CONSTRUCTS, Construct, Field
from tests.hostile.test_constructs import LONG, NEWEST, constructs, lastgood

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


@NEWEST
@constructs()
def test_reading(field: Field, store: Path, construct: Construct) -> None:
    if not field.can_run(construct):
        return
    field.plant(construct, store)
    found = {}
    names = list(COMMANDS) if LONG else [list(COMMANDS)[CONSTRUCTS.index(construct) % len(COMMANDS)]]
    for name in names:
        arguments = COMMANDS[name]
        done = lastgood(field, store, *arguments)
        assert "Traceback" not in done.stderr
        if successes := field.successes(field.live):
            found[name] = (successes, done.stdout + done.stderr)
            break  # what it made would count for each of the others
    assert found == {}


@NEWEST
@constructs(6, 2)
def test_rollback_away_from_code(field: Field, store: Path, construct: Construct) -> None:
    """Roll back to a state without code, and salvage rows from the kept database, which has it."""
    if not field.can_run(construct):
        return
    with field.server.target(field.live).connect() as connection:
        connection.execute("CREATE TABLE public.people (id int PRIMARY KEY, created_at timestamptz DEFAULT now())")
    done = lastgood(field, store, "backup")
    assert done.returncode == 0, done.stderr
    field.plant(construct, store)
    (store / "planted.sql").unlink()
    with field.server.target(field.live).connect() as connection:
        connection.execute("SET lastgood_test.quiet = on")
        connection.execute("INSERT INTO public.people SELECT generate_series(1, 20)")
        connection.execute("CREATE INDEX ON public.people (id) WHERE id > public.imm(0)")
    done = lastgood(field, store, "rollback", "--latest", "--yes")
    assert field.successes(*field.names()) == [], done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    done = lastgood(field, store, "salvage")
    assert field.successes(*field.names()) == [], done.stdout + done.stderr
    assert "people" in done.stdout, done.stdout + done.stderr
