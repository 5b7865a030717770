"""Code in a live database, in each command that only reads it: no attack succeeds."""

from __future__ import annotations

from pathlib import Path

from lastgood.postgres.server import only_row
from tests.hostile.conftest import HERE, LONG, Battery, Construct, Field
from tests.hostile.test_constructs import BY_NAME, VERSIONS, assert_no_success, lastgood, operators

# A new command is one line.
COMMANDS: dict[str, tuple[str, ...]] = {
    "facts": ("facts",),
    "facts of both": ("facts", "planted.sql", "--live"),
    "backup": ("backup",),
    "validate in full": ("validate", "--full"),
    "diff": ("diff", "planted.sql"),
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
    "prune": ("prune", "--keep", "100", "--yes"),
}

if LONG:
    COMMANDS |= {"validate": ("validate",), "check": ("check", "planted.sql")}


@VERSIONS
@operators("superuser", "creator")
def test_reading(field: Field, store: Path, battery: Battery) -> None:
    field.plant(battery, store)
    for name, arguments in COMMANDS.items():
        done = lastgood(field, store, *arguments)
        assert "Traceback" not in done.stderr, name
        assert field.successes(field.live) == [], name + done.stdout + done.stderr


@VERSIONS
@operators("superuser", long=BY_NAME)
def test_a_search_path_in_which_every_name_leads_to_code(field: Field, store: Path) -> None:
    shadows = Construct("c00", "shadows", (HERE / "shadows.sql").read_text(), frozenset())
    field.plant(Battery("shadows", (shadows,)), store)
    with field.at_rest(field.live) as connection:
        counts = only_row(
            connection,
            "SELECT (SELECT count(*) FROM pg_operator WHERE oprnamespace = 'hostile'::regnamespace),"
            " (SELECT count(*) FROM pg_proc WHERE pronamespace = 'hostile'::regnamespace),"
            " (SELECT count(*) FROM pg_class WHERE relnamespace = 'hostile'::regnamespace)",
        )
    assert min(counts) > 100, counts
    commands = COMMANDS | {
        "deploy": ("deploy", "--dry-run", "--", "true"),
        "rollback": ("rollback", "--latest", "--yes"),
    }
    for name, arguments in commands.items():
        done = lastgood(field, store, *arguments)
        assert_no_success(field, done)
        assert done.returncode in (0, 3), name + done.stdout + done.stderr
    with field.server.target(field.live).connect_unchanged() as connection:
        connection.execute("SELECT current_database()")
    assert "hostile_made_c00 was made" in field.successes(field.live)


@VERSIONS
@operators("superuser", long=BY_NAME)  # kept schemas no longer have the names that functions call
def test_rollback_away_from_code(field: Field, store: Path, battery: Battery) -> None:
    """Roll back to a state without code, and salvage rows from the kept database, which has it."""
    with field.at_rest(field.live, user=field.user) as connection:
        connection.execute("CREATE TABLE public.returners (id int PRIMARY KEY, created_at timestamptz DEFAULT now())")
    done = lastgood(field, store, "backup")
    assert done.returncode == 0, done.stderr
    # A backup needs every row; and the schemas that code was in must be movable.
    movable = field.user != "postgres" or field.in_place_only
    field.plant(battery, store, in_place=movable)
    (store / "planted.sql").unlink()
    with field.at_rest(field.live, user=field.user) as connection:
        connection.execute("INSERT INTO public.returners SELECT generate_series(1, 20)")
        for planted in field.can_run(battery, in_place=movable)[:1]:
            connection.execute(f"CREATE INDEX ON public.returners (id) WHERE id > {planted.home}.imm(0)".encode())
    done = lastgood(field, store, "rollback", "--latest", "--yes")
    assert_no_success(field, done)
    assert done.returncode == 0, done.stdout + done.stderr
    # Code in the live database: a plan does not run it, either.
    for planted in field.can_run(battery)[:1]:
        field.make(field.live, Battery("one", (planted,)))
        for file in field.folder.iterdir():
            file.unlink()  # of the superuser who made it
        with field.at_rest(field.live, user=field.user) as connection:
            statement = f"CREATE INDEX returners_code ON public.returners (id) WHERE id > {planted.home}.imm(0)"
            connection.execute(statement.encode())
        done = lastgood(field, store, "salvage", "plan")
        assert_no_success(field, done)
        assert done.returncode == 0, done.stdout + done.stderr
        with field.at_rest(field.live, user=field.user) as connection:
            connection.execute("DROP INDEX public.returners_code")
    chosen = ("--table", "returners")
    for arguments in (
        (),
        ("apply", *chosen, "--with-migration", "--where", "returners: id > 10", "--yes"),
        ("undo", "--yes"),
        ("apply", *chosen, "--with-migration", "--yes"),
    ):
        done = lastgood(field, store, "salvage", *arguments)
        assert_no_success(field, done)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "returners" in done.stdout + done.stderr, done.stdout + done.stderr
