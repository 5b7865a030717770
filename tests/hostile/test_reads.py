"""Code in a live database, in each command that only reads it: no attack succeeds."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.conftest import Battery, Field
from tests.hostile.test_constructs import VERSIONS, assert_no_success, lastgood, operators

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
    "rollback in place, dry": ("rollback", "planted.sql", "--in-place", "--dry-run"),
    "guide": ("guide", "--output", "-"),
    "points": ("points",),
    "points verify": ("points", "verify"),
    "salvage": ("salvage",),
    "salvage plan": ("salvage", "plan", "--from", "planted.sql"),
    "prune": ("prune", "--yes"),
}


@VERSIONS
@operators("superuser", "creator")
def test_reading(field: Field, store: Path, battery: Battery) -> None:
    field.plant(battery, store)
    for name, arguments in COMMANDS.items():
        done = lastgood(field, store, *arguments)
        assert "Traceback" not in done.stderr, name
        assert field.successes(field.live) == [], name + done.stdout + done.stderr


@VERSIONS
@operators("superuser")
def test_rollback_away_from_code(field: Field, store: Path, battery: Battery) -> None:
    """Roll back to a state without code, and salvage rows from the kept database, which has it."""
    with field.at_rest(field.live, user=field.user) as connection:
        connection.execute("CREATE TABLE public.people (id int PRIMARY KEY, created_at timestamptz DEFAULT now())")
    done = lastgood(field, store, "backup")
    assert done.returncode == 0, done.stderr
    field.plant(battery, store)
    (store / "planted.sql").unlink()
    with field.at_rest(field.live, user=field.user) as connection:
        connection.execute("INSERT INTO public.people SELECT generate_series(1, 20)")
        home = field.can_run(battery)[0].home if field.can_run(battery) else ""
        if home:
            connection.execute(f"CREATE INDEX ON public.people (id) WHERE id > {home}.imm(0)".encode())
    done = lastgood(field, store, "rollback", "--latest", "--yes")
    assert_no_success(field, done)
    assert done.returncode == 0, done.stdout + done.stderr
    chosen = ("--table", "people")
    for arguments in (
        (),
        ("plan",),
        ("apply", *chosen, "--where", "people: id > 10", "--yes"),
        ("undo", "--yes"),
        ("apply", *chosen, "--yes"),
    ):
        done = lastgood(field, store, "salvage", *arguments)
        assert_no_success(field, done)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "people" in done.stdout + done.stderr, done.stdout + done.stderr
