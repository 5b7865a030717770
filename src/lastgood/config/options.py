"""The one registry of options: type, default, environment variable, documentation.

It defines the command line, the plain keys of ``lastgood.toml`` and the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

FILE_NAME = "lastgood.toml"
LIBPQ = "libpq's own settings"  # the source of a database that is not named
NOTHING_READ = "Nothing was read or changed."

Value = str | int | bool | Path


@dataclass(frozen=True, slots=True)
class Option:
    """One option. ``flags`` are its spellings on the command line, ``environment`` its variables, first one first.

    ``default_text`` is the default in the documentation; ``in_file``: ``lastgood.toml`` may contain it. With
    ``is_global`` every command accepts it, before and after the command's name. A number with a ``unit`` may be
    written with MB, GB and so on; ``minimum`` is the smallest allowed one. If the default is None, lastgood chooses
    the value when it has connected to the server; a generated file then shows ``example``.
    """

    name: str
    type: type[str] | type[int] | type[bool] | type[Path]
    flags: tuple[str, ...]
    doc: str
    default: Value | None = ""
    default_text: str = ""
    environment: tuple[str, ...] = ()
    in_file: bool = True
    is_global: bool = True
    metavar: str = ""
    choices: tuple[str, ...] = ()
    unit: Literal["", "bytes", "bytes/s"] = ""
    minimum: int | None = None
    example: Value | None = None


OPTIONS: tuple[Option, ...] = (
    Option(
        "db",
        str,
        ("--db",),
        "The live database: a URL or a libpq connection string. Put the password in ~/.pgpass or PGPASSWORD.",
        default_text="libpq's own: PGHOST, PGDATABASE, a service file, ~/.pgpass",
        environment=("LASTGOOD_DB", "DATABASE_URL"),
        metavar="URL",
    ),
    Option(
        "store",
        Path,
        ("--store",),
        "The folder with the restore points.",
        default=Path("backups"),
        default_text="backups",
        environment=("LASTGOOD_STORE",),
        metavar="DIR",
    ),
    Option(
        "state",
        Path,
        ("--state",),
        "The folder with the journals of runs, the load statistics of each server, and the reports of defects.",
        default=Path(platformdirs.user_state_path("lastgood")),
        default_text="lastgood in the user's state folder (~/.local/state/lastgood)",
        environment=("LASTGOOD_STATE",),
        metavar="DIR",
    ),
    Option(
        "key_file",
        Path,
        ("--key-file",),
        "The key with which manifests of restore points are signed and verified. Unsigned ones are refused.",
        default=None,
        default_text="none: restore points are not signed",
        environment=("LASTGOOD_KEY_FILE",),
        metavar="FILE",
        example="restore-points.key",
    ),
    Option(
        "trust_unsigned",
        str,
        ("--trust-unsigned",),
        "Use restore points that are not signed with the key, for this reason.",
        default_text="off",
        in_file=False,
        metavar="REASON",
    ),
    Option(
        "config",
        Path,
        ("--config",),
        f"The configuration file, instead of the nearest {FILE_NAME} in this folder or its parents.",
        default=Path(),
        default_text=f"the nearest {FILE_NAME}",
        environment=("LASTGOOD_CONFIG",),
        in_file=False,
        metavar="FILE",
    ),
    Option(
        "json",
        bool,
        ("--json",),
        "Print one JSON document on stdout, and events as JSON lines on stderr.",
        default=False,
        default_text="off",
        in_file=False,
    ),
    Option(
        "quiet",
        bool,
        ("--quiet", "-q"),
        "Show no progress; results, cautions and errors are still shown.",
        default=False,
        default_text="off",
        in_file=False,
    ),
    Option(
        "no_color",
        bool,
        ("--no-color",),
        "Use no colours. No information is shown by colour alone.",
        default=False,
        default_text="off",
        environment=("NO_COLOR",),
        in_file=False,
    ),
    Option(
        "format",
        str,
        ("--format",),
        "The format of dumps that lastgood makes.",
        default="plain",
        default_text="plain",
        environment=("LASTGOOD_FORMAT",),
        is_global=False,
        metavar="FORM",
        choices=("plain", "custom", "directory"),
    ),
    Option(
        "fence",
        str,
        ("--fence",),
        "When to fence off writers: from the start (now), or only for the switchover (at-swap; later writes remain "
        "in the kept database).",
        default="now",
        default_text="now",
        environment=("LASTGOOD_FENCE",),
        is_global=False,
        metavar="WHEN",
        choices=("now", "at-swap"),
    ),
    Option(
        "reopen_when",
        str,
        ("--reopen-when",),
        "When to switch to the restored database: when everything is built (full), or as soon as the application "
        "can work with it (usable; unused indexes and the validation of foreign keys follow later).",
        default="full",
        default_text="full",
        environment=("LASTGOOD_REOPEN_WHEN",),
        is_global=False,
        metavar="WHEN",
        choices=("full", "usable"),
    ),
    Option(
        "on_failure",
        str,
        ("--on-failure",),
        "What to do when the health check or the smoke command fails after the switch: undo it, ask (without a "
        "terminal: keep), or keep the restored database.",
        default="ask",
        default_text="ask",
        environment=("LASTGOOD_ON_FAILURE",),
        is_global=False,
        metavar="WHAT",
        choices=("undo", "ask", "keep"),
    ),
    Option(
        "strict",
        bool,
        ("--strict",),
        "Stop at the first command of the dump that would be skipped or repaired.",
        default=False,
        default_text="off",
        is_global=False,
    ),
    Option(
        "allow_orphans",
        bool,
        ("--allow-orphans",),
        "Allow rows that violate a foreign key: it is added NOT VALID and listed in the report.",
        default=False,
        default_text="off",
        in_file=False,
        is_global=False,
    ),
    Option(
        "trust_code",
        str,
        ("--trust-code",),
        "Run code in the restore point with your own rights, for this reason, which is recorded. By default a role "
        "without rights runs it.",
        default_text="code is not trusted",
        in_file=False,
        is_global=False,
        metavar="REASON",
    ),
    Option(
        "build_as",
        str,
        ("--build-as",),
        "The URL of an existing role without rights that runs code in the restore point, instead of one made for the "
        "run. Put its password in ~/.pgpass.",
        default_text="a role is made for the run",
        example="postgresql://lastgood_builder@db.internal:5432/postgres",
        environment=("LASTGOOD_BUILD_AS",),
        is_global=False,
        metavar="URL",
    ),
    Option(
        "jobs",
        int,
        ("--jobs", "-j"),
        "The number of parallel connections that load the restore point; fewer if the server lacks free connections.",
        default=None,
        default_text="one for each processor of the server, as far as their number is known",
        environment=("LASTGOOD_JOBS",),
        is_global=False,
        metavar="N",
        minimum=1,
        example=4,
    ),
    Option(
        "max_wal_lag",
        int,
        ("--max-wal-lag",),
        "How far standbys, replication slots and the WAL archive may lag before loading waits for them (500MB, 2GB).",
        default=1 << 30,
        default_text="1GB",
        environment=("LASTGOOD_MAX_WAL_LAG",),
        is_global=False,
        metavar="SIZE",
        unit="bytes",
        minimum=16 << 20,
        example="1GB",
    ),
    Option(
        "throttle",
        int,
        ("--throttle",),
        "The maximum load rate per second of all connections together (50MB).",
        default=None,
        default_text="no limit",
        environment=("LASTGOOD_THROTTLE",),
        is_global=False,
        metavar="RATE",
        unit="bytes/s",
        minimum=64 << 10,
        example="50MB",
    ),
)


def option(name: str) -> Option:
    """The option of that name. Raises LookupError."""
    for candidate in OPTIONS:
        if candidate.name == name:
            return candidate
    raise LookupError(f"no option is called {name!r}")
