"""The table of commands: what each does in one line, and the module that declares it.

Help and completion read this table and import no command; ``application`` imports the one that is called.
"""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """One command. ``summary``: the first line of its help, without the full stop. ``module``: below
    ``lastgood.command``."""

    name: str
    summary: str
    module: str


# In help: what an operator needs in an emergency comes first.
COMMANDS = (
    Command("rollback", "Roll the live database back to a restore point", "rollback.command"),
    Command("recover", "Diagnose the emergency and roll back", "recover.command"),
    Command("undo", "Undo a rollback: switch back to the kept database", "rollback.undo"),
    Command("salvage", "Bring rows back that were written after the restore point", "salvage.command"),
    Command("status", "Show the state of the live database and of unfinished runs", "status.command"),
    Command("resume", "Continue a rollback that stopped half-way", "rollback.command"),
    Command("abort", "Walk back a run that stopped half-way", "rollback.command"),
    Command("explain", "Explain an error, a log or a run: cause, data, next command", "explain.command"),
    Command("runs", "List past runs: rollbacks, undos, restores and others", "report.list"),
    Command("report", "Report what a run did and what is left to do", "report.command"),
    Command("deploy", "Run a migration, and roll it back if it fails", "deploy.command"),
    Command("check", "Run the checklist before a rollback", "check.command"),
    Command("maintenance", "Stop the application, or start it again", "maintenance.command"),
    Command("backup", "Make a restore point of the live database, and verify it", "points.backup"),
    Command("points", "List, verify and pin restore points", "points.command"),
    Command("facts", "Show what restore points and databases contain, or compare two", "facts.command"),
    Command("diff", "Compare two states of a database, row by row", "diff.command"),
    Command("restore", "Restore into a new database and prove the result", "restore.command"),
    Command("validate", "Check data integrity: GO or NO-GO", "validate.command"),
    Command("drill", "Rehearse the whole procedure on a scratch server", "drill.command"),
    Command("prune", "Remove kept databases and restore points permanently", "prune.command"),
    Command("guide", "Write the rollback procedure as plain commands", "guide.command"),
    Command("init", "Inspect the database and write lastgood.toml", "init.command"),
    Command("config", "Check lastgood.toml, or print its JSON Schema", "config.command"),
    Command("notify", "Show the notification targets, or send them a test message", "notify.command"),
)
ORDER = tuple(each.name for each in COMMANDS)
MODULES = {each.name: f"lastgood.command.{each.module}" for each in COMMANDS}
