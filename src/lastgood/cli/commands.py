"""The table of commands: what each does in one line, and the module that declares it.

Help and completion read this table and import no command; ``application`` imports the one that is called.
"""

from __future__ import annotations

from typing import NamedTuple


class CommandEntry(NamedTuple):
    """One command. ``summary``: the first line of its help, without the full stop. ``module``: below
    ``lastgood.command``."""

    name: str
    summary: str
    module: str


# In help: what an operator needs in an emergency comes first.
COMMANDS = (
    CommandEntry("rollback", "Roll the live database back to a restore point", "rollback.command"),
    CommandEntry("recover", "Diagnose the emergency and roll back", "recover.command"),
    CommandEntry("undo", "Undo a rollback: switch back to the kept database", "rollback.undo"),
    CommandEntry("status", "Show the state of the live database and of unfinished runs", "status.command"),
    CommandEntry("resume", "Continue an unfinished rollback", "rollback.command"),
    CommandEntry("abort", "Revert an unfinished run", "rollback.command"),
    CommandEntry("explain", "Explain an error, a log or a run: cause, data, next command", "explain.command"),
    CommandEntry("runs", "List past runs: rollbacks, undos, restores and others", "report.list"),
    CommandEntry("report", "Report what a run did and what is left to do", "report.command"),
    CommandEntry("deploy", "Run a migration, and roll it back if it fails", "deploy.command"),
    CommandEntry("check", "Run the checklist before a rollback", "check.command"),
    CommandEntry("maintenance", "Stop the application, or start it again", "maintenance.command"),
    CommandEntry("backup", "Make a restore point of the live database, and verify it", "points.backup"),
    CommandEntry("points", "List, verify and pin restore points", "points.command"),
    CommandEntry("facts", "Show what restore points and databases contain, or compare two", "facts.command"),
    CommandEntry("restore", "Restore into a new database and prove the result", "restore.command"),
    CommandEntry("validate", "Check data integrity: GO or NO-GO", "validate.command"),
    CommandEntry("drill", "Rehearse the whole procedure on a scratch server", "drill.command"),
    CommandEntry("prune", "Remove kept databases and restore points permanently", "prune.command"),
    CommandEntry("guide", "Write the rollback procedure as plain commands", "guide.command"),
    CommandEntry("init", "Inspect the database and write lastgood.toml", "init.command"),
    CommandEntry("config", "Check lastgood.toml, or print its JSON Schema", "config.command"),
    CommandEntry("notify", "Show the notification targets, or send them a test message", "notify.command"),
)
ORDER = tuple(each.name for each in COMMANDS)
MODULES = {each.name: f"lastgood.command.{each.module}" for each in COMMANDS}
