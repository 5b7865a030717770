"""The table of commands: what each does in one line, the module that declares it, and its group in help.

Help and completion read this table and import no command; ``application`` imports the one that is called.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Group = Literal["Emergency", "Before a release", "Look", "Set up"]


class Command(NamedTuple):
    """One command. ``summary``: the first line of its help, without the full stop. ``module``: below
    ``lastgood.command``."""

    name: str
    summary: str
    module: str
    group: Group


# In the order of help: what an operator needs in an emergency comes first. Commands of one group stand together.
COMMANDS = (
    Command("rollback", "Roll the live database back to a restore point", "rollback.command", "Emergency"),
    Command("recover", "Diagnose the emergency and roll back", "recover.command", "Emergency"),
    Command("undo", "Undo a rollback: switch back to the kept database", "rollback.undo", "Emergency"),
    Command("status", "Show the state of the live database and of unfinished runs", "status.command", "Emergency"),
    Command("resume", "Continue a rollback that stopped half-way", "rollback.command", "Emergency"),
    Command("abort", "Walk back a run that stopped half-way", "rollback.command", "Emergency"),
    Command("explain", "Explain an error, a log or a run: cause, data, next command", "explain.command", "Emergency"),
    Command("maintenance", "Stop the application, or start it again", "maintenance.command", "Emergency"),
    Command("restore", "Restore into a new database and prove the result", "restore.command", "Emergency"),
    Command("backup", "Make a restore point of the live database, and verify it", "points.backup", "Before a release"),
    Command("check", "Run the checklist before a rollback", "check.command", "Before a release"),
    Command("deploy", "Run a migration, and roll it back if it fails", "deploy.command", "Before a release"),
    Command("validate", "Check data integrity: GO or NO-GO", "validate.command", "Before a release"),
    Command("drill", "Rehearse the whole procedure on a scratch server", "drill.command", "Before a release"),
    Command("guide", "Write the rollback procedure as plain commands", "guide.command", "Before a release"),
    Command("points", "List, verify and pin restore points", "points.command", "Look"),
    Command("facts", "Show what restore points and databases contain, or compare two", "facts.command", "Look"),
    Command("runs", "List past runs: rollbacks, undos, restores and others", "report.list", "Look"),
    Command("report", "Report what a run did and what is left to do", "report.command", "Look"),
    Command("help", "Show the help of a command, or what exit statuses mean", "help.command", "Look"),
    Command("init", "Inspect the database and write lastgood.toml", "init.command", "Set up"),
    Command("config", "Check lastgood.toml, print an example or its JSON Schema", "config.command", "Set up"),
    Command("notify", "Show the notification targets, or send them a test message", "notify.command", "Set up"),
    Command("prune", "Remove kept databases and restore points permanently", "prune.command", "Set up"),
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
