"""The one registry of options: type, default, environment variable, documentation.

The command line, ``lastgood.toml`` and the reference are made from it. An option's value is the first one given by:
the command line, its environment variables in their order, the file, its default.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import platformdirs
import psycopg
from psycopg import conninfo

from lastgood import secrecy, sizes
from lastgood.errors import UsageError

FILE_NAME = "lastgood.toml"
LIBPQ = "libpq's own settings"
NOTHING_LOOKED_AT = "Nothing was looked at or changed."

Value = str | int | bool | Path


@dataclass(frozen=True, slots=True)
class Option:
    """One option. ``flags`` are its spellings on the command line, ``environment`` its variables, first one first.

    ``default_text`` is the default as documentation says it; ``in_file`` tells whether ``lastgood.toml`` may have it.
    A ``global`` option is accepted by every command, before and after its name. A number with a ``unit`` may be
    written with MB, GB and so on; ``minimum`` is the smallest one that makes sense. A default of None means that
    lastgood decides when it has seen the server; ``example`` is what a file shows in place of the default.
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
        "The live database: a URL or a libpq connection string. Its password belongs into ~/.pgpass or PGPASSWORD.",
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
        "The folder with the journals of runs, what loads taught of each server, and the reports of defects.",
        default=Path(platformdirs.user_state_path("lastgood")),
        default_text="lastgood in the user's state folder (~/.local/state/lastgood)",
        environment=("LASTGOOD_STATE",),
        metavar="DIR",
    ),
    Option(
        "config",
        Path,
        ("--config",),
        f"The configuration file, instead of the nearest {FILE_NAME} in this folder and those above it.",
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
        "Say nothing while working; results, cautions and errors are still shown.",
        default=False,
        default_text="off",
        in_file=False,
    ),
    Option(
        "no_color",
        bool,
        ("--no-color",),
        "Use no colours. Colour never carries meaning alone.",
        default=False,
        default_text="off",
        environment=("NO_COLOR",),
        in_file=False,
    ),
    Option(
        "format",
        str,
        ("--format",),
        "The form of dumps that lastgood makes.",
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
        "When writers are kept out: from the start (now), or only for the swap (at-swap; what they write meanwhile "
        "stays in the kept database).",
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
        "When the restored database goes into service: when everything is built (full), or as soon as the application "
        "can work with it (usable; indexes that nothing uses and the last look at foreign keys are done then).",
        default="full",
        default_text="full",
        environment=("LASTGOOD_REOPEN_WHEN",),
        is_global=False,
        metavar="WHEN",
        choices=("full", "usable"),
    ),
    Option(
        "strict",
        bool,
        ("--strict",),
        "Stop at the first command of the dump that would be left out or repaired.",
        default=False,
        default_text="off",
        is_global=False,
    ),
    Option(
        "allow_orphans",
        bool,
        ("--allow-orphans",),
        "Allow rows without a match: their foreign key is added NOT VALID, and the report says so.",
        default=False,
        default_text="off",
        in_file=False,
        is_global=False,
    ),
    Option(
        "jobs",
        int,
        ("--jobs", "-j"),
        "How many connections load the restore point at once; fewer where the server has no room for them.",
        default=None,
        default_text="one for each processor of the server, as far as is known",
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
        "How far standbys, replication slots and the WAL archive may fall behind before loading waits for them "
        "(500MB, 2GB).",
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
        "How much is loaded in a second at most, by all connections together (50MB).",
        default=None,
        default_text="as fast as the server takes it",
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


@dataclass(frozen=True, slots=True)
class Settings:
    """What one call of lastgood works with. ``db`` may hold a password and is not part of ``repr``.

    ``origins`` says for each option who gave its value: a flag, a variable, a file, or "default". ``file`` is the
    ``lastgood.toml`` that was read, None without one. The others: see OPTIONS.
    """

    db: str = field(repr=False, default="")
    store: Path = Path("backups")
    state: Path = Path()
    json: bool = False
    quiet: bool = False
    no_color: bool = False
    format: Literal["plain", "custom", "directory"] = "plain"
    fence: Literal["now", "at-swap"] = "now"
    reopen_when: Literal["full", "usable"] = "full"
    strict: bool = False
    allow_orphans: bool = False
    jobs: int | None = None
    max_wal_lag: int = 1 << 30
    throttle: int | None = None
    file: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict)


def resolve(
    given: Mapping[str, Value], environment: Mapping[str, str] = os.environ, folder: Path | None = None
) -> Settings:
    """Settings from what the command line gave, the environment, and the file nearest to ``folder`` (default: here).

    Raises UsageError, whose text never contains a password.
    """
    file = _find_file(given, environment, folder or Path.cwd())
    in_file = _read_file(file) if file is not None else {}
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for each in OPTIONS:
        values[each.name], origins[each.name] = _value(each, given, environment, in_file, file)
    del values["config"]
    check_database(values["db"], origins["db"])
    values["state"] = values["state"].expanduser()
    values["store"] = values["store"].expanduser()
    return Settings(**values, file=file, origins=origins)


def _value(
    each: Option, given: Mapping[str, Value], environment: Mapping[str, str], in_file: Mapping[str, Value], file: Any
) -> tuple[Value | None, str]:
    if given.get(each.name) is not None:
        return _converted(each, given[each.name], each.flags[0]), each.flags[0]
    for variable in each.environment:
        if text := environment.get(variable):
            # https://no-color.org: any value that is not empty.
            return (True if each.type is bool else _converted(each, text, variable)), variable
    if each.name in in_file:
        value = _converted(each, in_file[each.name], f'"{each.name}" in "{file}"')
        if isinstance(value, Path):
            value = file.parent / value.expanduser()
        return value, str(file)
    return each.default, LIBPQ if each.name == "db" else "default"


def _converted(each: Option, value: Value, origin: str) -> Value:
    if each.type is int:
        number = _number(each, str(value)) if not isinstance(value, bool) else None
        if number is not None:
            return number
        problem = _wanted(each)
    elif each.choices and value not in each.choices:
        problem = " or ".join(f'"{choice}"' for choice in each.choices)
    elif each.type is Path and isinstance(value, str | Path):
        return Path(value)
    elif isinstance(value, each.type):
        return value
    else:
        problem = {str: "a text", Path: "a text", bool: "true or false"}[each.type]
    raise UsageError(
        f"cannot use {origin}: it must be {problem}",
        hint="`lastgood --help` shows the options.",
        state=NOTHING_LOOKED_AT,
    )


def _number(each: Option, text: str) -> int | None:
    """The number that the text means; None when it means none, or one that is too small."""
    try:
        number = sizes.parse(text.strip().removesuffix("/s")) if each.unit else int(text)
    except ValueError:
        return None
    return number if each.minimum is None or number >= each.minimum else None


def _wanted(each: Option) -> str:
    if each.unit and each.minimum is not None:
        a_second = " a second" if each.unit == "bytes/s" else ""
        return f"a size like 500MB or 2GB{a_second}, {sizes.said(each.minimum)} or more"
    return f"a whole number, {each.minimum} or more" if each.minimum is not None else "a whole number"


def _find_file(given: Mapping[str, Value], environment: Mapping[str, str], folder: Path) -> Path | None:
    named = given.get("config") or environment.get("LASTGOOD_CONFIG")
    if named:
        file = Path(str(named)).expanduser()
        if not file.is_file():
            raise UsageError(
                f'cannot read "{file}": no such file',
                hint="`lastgood init` writes a configuration file.",
                state=NOTHING_LOOKED_AT,
            )
        return file
    for place in (folder, *folder.parents):
        if (place / FILE_NAME).is_file():
            return place / FILE_NAME
    return None


def _read_file(file: Path) -> dict[str, Value]:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f'cannot read "{file}": {error.strerror}', state=NOTHING_LOOKED_AT) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # The parser quotes no more than one character of the file.
        raise UsageError(
            f'cannot read "{file}": {error}',
            hint="Mend the file, or let `lastgood init --force` write a new one.",
            state=NOTHING_LOOKED_AT,
        ) from error
    known = [each.name for each in OPTIONS if each.in_file]
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise UsageError(
                f'cannot read "{file}": unknown key "{key}"',
                hint=f'Did you mean "{near[0]}"?' if near else f"The known keys are: {', '.join(known)}.",
                state=NOTHING_LOOKED_AT,
            )
    database = found.get("db")
    if isinstance(database, str) and secrecy.written_passwords(database):
        raise UsageError(
            f'cannot use "{file}": its "db" contains a password',
            hint="Take the password out of the file and put it into ~/.pgpass or the variable PGPASSWORD.",
            state=NOTHING_LOOKED_AT,
        )
    return found


def check_database(text: str, origin: str) -> None:
    """Refuses a URL or connection string that libpq can't read; ``origin`` says who gave it.

    Raises UsageError. libpq's own message would quote pieces of the password.
    """
    if secrecy.is_url(text) and secrecy.needs_encoding(text):
        raise UsageError(
            f"cannot read the database URL from {origin}: its password has characters with a meaning in URLs",
            hint="Write @ as %40, : as %3A, / as %2F, ? as %3F and % as %25, or take the password out of the URL and "
            "put it into ~/.pgpass or the variable PGPASSWORD.",
            state=NOTHING_LOOKED_AT,
        )
    try:
        conninfo.conninfo_to_dict(text)
    except psycopg.ProgrammingError as error:
        why = "libpq does not understand it" if "password" in text.lower() or "@" in text else str(error).strip()
        raise UsageError(
            f"cannot read the database from {origin}: {why}",
            hint='Give it as "postgresql://user@host:5432/name" or "host=… dbname=…".',
            state=NOTHING_LOOKED_AT,
        ) from None
