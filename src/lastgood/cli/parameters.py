"""Arguments and options of several commands. For the meaning of their values, see ``choice``."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from lastgood.cli.complete import items, points, unfinished_runs

# The options of the registry that make a Pace.
PACE = ("jobs", "max_wal_lag", "throttle")
# Those that make a CodePolicy.
CODE = ("trust_code", "build_as")

Point = Annotated[
    str | None, typer.Argument(metavar="POINT", help="Its name in the store, or a path.", autocompletion=points)
]
Latest = Annotated[bool, typer.Option("--latest", help="The newest valid restore point (the default).")]
Before = Annotated[
    str | None,
    typer.Option(
        "--before",
        metavar="TIME",
        help="The newest one made before this time, in ISO 8601; UTC unless it has a zone.",
    ),
]
BeforeMigration = Annotated[
    str | None,
    typer.Option("--before-migration", metavar="VERSION", help="The newest one without this migration."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--override",
        metavar="ITEM",
        help="Override this item of the checklist; needs --reason.",
        autocompletion=items,
    ),
]
Reasons = Annotated[
    list[str] | None,
    typer.Option(
        "--reason", metavar="TEXT", help="The reason: one for each --override in their order, or one for all."
    ),
]
Attested = Annotated[
    list[str] | None,
    typer.Option(
        "--attest",
        metavar="ITEM=NAME",
        help="Attest an item that cannot be measured, with the name of the person who confirms it.",
        autocompletion=items,
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="URL",
        help="Roll back to a dump of another running database, such as a platform's restore into a new project. It "
        "is dumped into the store first, also with --dry-run.",
    ),
]
InPlace = Annotated[
    bool | None,
    typer.Option(
        "--in-place/--by-name",
        help="Exchange the objects of schemas inside the database, or the names of databases. By default by name, and "
        "in place where the role cannot rename the database, or not restore each object with its owner.",
        show_default=False,
    ),
]


class Level(Enum):
    """How rows are compared with a restore point."""

    count = "count"
    digest = "digest"
    none = "none"


Comparing = Annotated[
    Level | None,
    typer.Option(
        "--compare",
        metavar="LEVEL",
        help="How to compare rows with the restore point: count those that differ (the default), only find the tables "
        "that differ (digest), or none.",
    ),
]
RunName = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="The run (default: the only unfinished one).", autocompletion=unfinished_runs),
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Show the plan and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
