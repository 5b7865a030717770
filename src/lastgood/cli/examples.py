"""Three examples for each command, as its help and its part of the manual page show them.

A test parses every one, so that no example uses an option that does not exist.
"""

from __future__ import annotations

# Command → its arguments, and what they do.
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "rollback": (
        ("rollback --dry-run", "the plan and the data loss"),
        ("rollback", "asks, then does it"),
        ("rollback --before 2026-03-01T12:00", "to the newest point before"),
    ),
    "recover": (
        ("recover --dry-run", "the diagnosis and the ways out"),
        ("recover", "asks, then takes the first"),
        ("recover --json --dry-run", "the same for a program"),
    ),
    "undo": (
        ("undo --dry-run", "what would be switched"),
        ("undo", "undoes the newest rollback"),
        ("undo 20260301-120000-0a1b2c3d --yes", "undoes that one, unasked"),
    ),
    "salvage": (
        ("salvage", "what can be brought back"),
        ("salvage plan > salvage.toml", "to edit and apply"),
        ("salvage apply --table contacts", "asks, then merges these rows"),
    ),
    "salvage plan": (
        ("salvage plan > salvage.toml", "every row that users wrote"),
        ("salvage plan --since 2026-03-01T12:00", "those written since then"),
        ("salvage plan --json", "the numbers for a program"),
    ),
    "salvage choose": (
        ("salvage choose", "tick rows; writes salvage.toml"),
        ("salvage choose mine.toml", "writes that file"),
        ("salvage choose --table contacts", "of this table only"),
    ),
    "salvage apply": (
        ("salvage apply salvage.toml --dry-run", "what would change"),
        ("salvage apply salvage.toml", "asks, then does it"),
        ("salvage apply --on insert_exists=renumber", "with new numbers"),
    ),
    "salvage undo": (
        ("salvage undo --dry-run", "what would change"),
        ("salvage undo", "undoes the newest salvage"),
        ("salvage undo 20260301-120000-0a1b2c3d", "undoes that one"),
    ),
    "status": (
        ("status", "the state, and what to do next"),
        ("status --json", "the same for a program"),
        ("status --metrics", "for Prometheus"),
    ),
    "resume": (
        ("resume", "the only unfinished run"),
        ("resume 20260301-120000-0a1b2c3d", "that run"),
        ("resume --yes", "does not ask"),
    ),
    "abort": (
        ("abort", "the only unfinished run"),
        ("abort 20260301-120000-0a1b2c3d", "that run"),
        ("abort --yes", "does not ask"),
    ),
    "explain": (
        ("explain deploy.log", "every known error in a log"),
        ("explain 40P01", "an SQLSTATE, or a text"),
        ("explain 20260301-120000-0a1b2c3d", "why that run failed"),
    ),
    "maintenance": (
        ("maintenance", "whether the application is stopped"),
        ("maintenance on", "stops it"),
        ("maintenance off", "starts it again"),
    ),
    "maintenance on": (
        ("maintenance on", "stops the application"),
        ("maintenance on --quiet", "without progress"),
        ("maintenance on --json", "the result for a program"),
    ),
    "maintenance off": (
        ("maintenance off", "starts the application"),
        ("maintenance off --quiet", "without progress"),
        ("maintenance off --json", "the result for a program"),
    ),
    "maintenance status": (
        ("maintenance status", "whether the application is stopped"),
        ("maintenance status --json", "the same for a program"),
        ("maintenance", "the same"),
    ),
    "restore": (
        ("restore crm.sql --into copy", "proves it"),
        ("restore crm.tar --into copy --no-owner", "as your role's"),
        ("restore cut.sql --into copy --skip-damaged", "what is left"),
    ),
    "backup": (
        ("backup --label before-release", "a verified restore point"),
        ("backup --prune --quiet", "for cron: removes old ones too"),
        ("backup --format custom", "as an archive of pg_dump"),
    ),
    "check": (
        ("check", "GO or NO-GO for a rollback"),
        ("check --json", "the same for a program"),
        ("check --latest", "with the newest point"),
    ),
    "deploy": (
        ("deploy -- ./migrate", "rolls back if it fails"),
        ("deploy --dry-run -- ./migrate", "tries it on a copy"),
        ("deploy --label v42 -- npm run migrate", "names the point"),
    ),
    "validate": (
        ("validate", "every rule, on every row"),
        ("validate --quick", "the most important, in seconds"),
        ("validate --json", "the result for a program"),
    ),
    "drill": (
        ("drill", "the whole procedure, elsewhere"),
        ("drill --due", "ends with 3 if one is overdue"),
        ("drill --list", "the drills on this machine"),
    ),
    "guide": (
        ("guide", "commands for psql and pg_dump"),
        ("guide --output guide.md", "into a file, for the printer"),
        ("guide --output guide.md --check", "whether it is out of date"),
    ),
    "points": (
        ("points", "the restore points"),
        ("points --loss", "what a rollback to each would change"),
        ("points verify", "reads each to its end"),
    ),
    "points list": (
        ("points list", "the restore points"),
        ("points list --json", "the same for a program"),
        ("points list --store /mnt/backups", "those of another folder"),
    ),
    "points verify": (
        ("points verify", "reads each to its end"),
        ("points verify backup.sql", "one file"),
        ("points verify --quiet", "for cron"),
    ),
    "points pin": (
        ("points pin crm.sql --reason 'audit of Q3'", "keeps it"),
        ("points pin crm.sql --reason 'case 42' --quiet", "without progress"),
        ("points pin crm.sql --reason 'case 42' --json", "for a program"),
    ),
    "points unpin": (
        ("points unpin crm.sql", "prune may remove it again"),
        ("points unpin crm.sql --quiet", "without progress"),
        ("points unpin crm.sql --json", "for a program"),
    ),
    "diff": (
        ("diff good.sql", "with the live database"),
        ("diff good.sql --rows --table contacts", "its rows"),
        ("diff good.sql crm_old_0a1b2c3d", "with a kept database"),
    ),
    "facts": (
        ("facts", "rows and digests of the live database"),
        ("facts backup.sql", "those of a restore point"),
        ("facts backup.sql --live", "how the two differ"),
    ),
    "runs": (
        ("runs", "the newest runs"),
        ("runs --json", "the same for a program"),
        ("runs --state /var/lib/lastgood", "those of another folder"),
    ),
    "report": (
        ("report", "the newest run"),
        ("report --output report.html", "as a page"),
        ("report --post-mortem post-mortem.md", "a draft to complete"),
    ),
    "help": (
        ("help rollback", "the help of a command"),
        ("help exit-status", "what exit statuses mean"),
        ("help", "every command"),
    ),
    "init": (
        ("init", "writes lastgood.toml"),
        ("init --db postgresql://me@db/crm", "for this database"),
        ("init --force", "overwrites it"),
    ),
    "config": (
        ("config", "whether lastgood.toml is valid"),
        ("config example", "every key, with an example"),
        ("config schema", "a JSON Schema, for editors"),
    ),
    "config check": (
        ("config check", "whether lastgood.toml is valid"),
        ("config check other.toml", "another file"),
        ("config check --json", "the settings for a program"),
    ),
    "config example": (
        ("config example", "every key, with an example"),
        ("config example notifications", "one table"),
        ("config example retention >> x.toml", "into a file"),
    ),
    "config schema": (
        ("config schema", "on the terminal"),
        ("config schema > lastgood.schema.json", "into a file"),
        ("config schema --quiet", "the same"),
    ),
    "notify": (
        ("notify", "the targets and their events"),
        ("notify --test", "a test message to each"),
        ("notify --test team", "a test message to one"),
    ),
    "prune": (
        ("prune --dry-run", "what would be removed, and why"),
        ("prune --keep 5 --older-than 30d", "asks, then removes"),
        ("prune crm_old_0a1b2c3d", "one kept database"),
    ),
}


def section(name: str) -> list[str]:
    """Return the lines of the examples of a command: indented by two, at most 76 characters wide."""
    shown = [(f"lastgood {arguments}", meaning) for arguments, meaning in EXAMPLES.get(name, ())]
    width = max((len(arguments) for arguments, _ in shown), default=0)
    return [f"  {arguments:{width}}  # {meaning}" for arguments, meaning in shown]
