"""The table of commands: what each does in one line, the module that declares it, and its group in help.

Help and completion read this table and import no command; ``application`` imports the one that is called.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Group = Literal["Emergency", "Before a release", "Look", "Set up"]


class CommandEntry(NamedTuple):
    """One command. ``summary``: the first line of its help, without the full stop. ``module``: below
    ``lastgood.command``."""

    name: str
    summary: str
    module: str
    group: Group


# In the order of help: what an operator needs in an emergency comes first. Commands of one group stand together.
COMMANDS = (
    CommandEntry("rollback", "Roll the live database back to a restore point", "rollback.command", "Emergency"),
    CommandEntry("recover", "Diagnose the emergency and roll back", "recover.command", "Emergency"),
    CommandEntry("undo", "Undo a completed rollback: switch back to the kept database", "rollback.undo", "Emergency"),
    CommandEntry("salvage", "Bring back rows written after the restore point", "salvage.command", "Emergency"),
    CommandEntry("status", "Show the state of the live database and of unfinished runs", "status.command", "Emergency"),
    CommandEntry("resume", "Continue an unfinished rollback", "rollback.command", "Emergency"),
    CommandEntry("abort", "Give up an unfinished run and remove what it was building", "rollback.command", "Emergency"),
    CommandEntry(
        "explain", "Explain an error, a log or a run: cause, data, next command", "explain.command", "Emergency"
    ),
    CommandEntry("maintenance", "Stop the application, or start it again", "maintenance.command", "Emergency"),
    CommandEntry("restore", "Restore into a new database and prove the result", "restore.command", "Emergency"),
    CommandEntry("backup", "Make and verify a restore point of the live database", "points.backup", "Before a release"),
    CommandEntry("check", "Run the checklist before a rollback", "check.command", "Before a release"),
    CommandEntry("deploy", "Run a migration, and roll it back if it fails", "deploy.command", "Before a release"),
    CommandEntry("validate", "Check data integrity: GO or NO-GO", "validate.command", "Before a release"),
    CommandEntry("drill", "Rehearse the whole procedure on a scratch server", "drill.command", "Before a release"),
    CommandEntry("guide", "Write the rollback procedure as plain commands", "guide.command", "Before a release"),
    CommandEntry("points", "List, verify and pin restore points", "points.command", "Look"),
    CommandEntry("facts", "Show what restore points and databases contain, or compare two", "facts.command", "Look"),
    CommandEntry("diff", "Compare two states of a database, row by row", "diff.command", "Look"),
    CommandEntry("runs", "List past runs: rollbacks, undos, restores and others", "report.command", "Look"),
    CommandEntry("report", "Report what a run did and what is left to do", "report.command", "Look"),
    CommandEntry("help", "Show the help of a command, or what exit statuses mean", "help.command", "Look"),
    CommandEntry("init", "Inspect the database and write lastgood.toml", "init.command", "Set up"),
    CommandEntry("config", "Check lastgood.toml, print an example or its JSON Schema", "config.command", "Set up"),
    CommandEntry("notify", "Show the notification targets, or send them a test message", "notify.command", "Set up"),
    CommandEntry("prune", "Remove kept databases and restore points permanently", "prune.command", "Set up"),
)
ORDER = tuple(each.name for each in COMMANDS)
MODULES = {each.name: f"lastgood.command.{each.module}" for each in COMMANDS}

# What operators of other tools type, and the command that they mean.
ALSO_CALLED = {
    "back": "rollback",
    "revert": "rollback",
    "switch": "rollback",
    "diagnose": "recover",
    "rescue": "recover",
    "info": "status",
    "state": "status",
    "continue": "resume",
    "cancel": "abort",
    "stop": "maintenance on",
    "start": "maintenance off",
    "dump": "backup",
    "snapshot": "backup",
    "migrate": "deploy",
    "release": "deploy",
    "doctor": "check",
    "test": "drill",
    "list": "points",
    "ls": "points",
    "verify": "points verify",
    "pin": "points pin",
    "compare": "facts",
    "history": "runs",
    "log": "runs",
    "setup": "init",
    "settings": "config",
    "cleanup": "prune",
    "remove": "prune",
    "version": "--version",
    "man": "help",
}
