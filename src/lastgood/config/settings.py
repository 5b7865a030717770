"""The settings of one call, from all their sources.

``values`` resolves the value of each option; tables come only from the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import psycopg
from psycopg import conninfo, pq

from lastgood.config import file as configuration
from lastgood.config.options import NOTHING_READ, OPTIONS, Value
from lastgood.config.source import find
from lastgood.config.tables import Tables
from lastgood.config.values import InvalidInFile, value_of
from lastgood.errors import UsageError
from lastgood.text import redact


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one call of lastgood. ``db`` may hold a password and is not part of ``repr``.

    ``origins`` has the source of each option's value: a flag, a variable, a file, or "default". ``file`` is the
    ``lastgood.toml`` that was read, None without one; ``tables`` are its tables. For the other fields see OPTIONS.
    """

    db: str = field(repr=False, default="")
    store: Path = Path("backups")
    state: Path = Path()
    key_file: Path | None = None
    trust_unsigned: str = ""
    json: bool = False
    quiet: bool = False
    no_color: bool = False
    format: Literal["plain", "custom", "directory"] = "plain"
    fence: Literal["now", "at-swap"] = "now"
    reopen_when: Literal["full", "usable"] = "full"
    on_failure: Literal["undo", "ask", "keep"] = "ask"
    strict: bool = False
    allow_orphans: bool = False
    trust_code: str = ""
    build_as: str = field(repr=False, default="")
    jobs: int | None = None
    max_wal_lag: int = 1 << 30
    throttle: int | None = None
    tables: Tables = field(default_factory=Tables)
    file: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict)


def resolve(
    given: Mapping[str, Value], environment: Mapping[str, str] = os.environ, folder: Path | None = None
) -> Settings:
    """Settings from the command line, the environment, and the file nearest to ``folder`` (default: the current one).

    Raises UsageError, whose text never contains a password.
    """
    file = find(given.get("config") or environment.get("LASTGOOD_CONFIG"), folder or Path.cwd())
    content = configuration.read(file) if file is not None else configuration.FileContent({}, Tables(), ())
    problems = list(content.problems)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for each in OPTIONS:
        try:
            values[each.name], origins[each.name] = value_of(each, given, environment, content.options, file)
        except InvalidInFile as wrong:
            problems.append(wrong.problem)
    if file is not None and problems:
        raise configuration.refusal(file, problems)
    del values["config"]
    check_database(values["db"], origins["db"])
    values["state"] = values["state"].expanduser()
    values["store"] = values["store"].expanduser()
    values["key_file"] = values["key_file"].expanduser() if values["key_file"] is not None else None
    return Settings(**values, tables=content.tables, file=file, origins=origins)


def check_database(text: str, origin: str) -> None:
    """Refuse a URL or connection string that libpq cannot parse; ``origin`` is its source.

    Raises UsageError. libpq's own message would quote parts of the password.
    """
    if redact.is_url(text) and redact.needs_encoding(text):
        raise UsageError(
            f"cannot parse the database URL from {origin}: the password contains reserved characters",
            hint="Write @ as %40, : as %3A, / as %2F, ? as %3F and % as %25, or remove the password from the URL and "
            "put it in ~/.pgpass or the variable PGPASSWORD.",
            state=NOTHING_READ,
        )
    try:
        conninfo.conninfo_to_dict(text)
    except psycopg.ProgrammingError as error:
        why, hint = _unparsed(text, str(error).strip())
        raise UsageError(
            f"cannot parse the connection string from {origin}: {why}", hint=hint, state=NOTHING_READ
        ) from None


_FORM = 'Give it as "postgresql://user@host:5432/name" or "host=… dbname=…".'


def _unparsed(text: str, reason: str) -> tuple[str, str]:
    """Why libpq cannot parse a connection string, without quoting what may be a part of a password, and the remedy."""
    scheme, found, rest = text.partition("://")
    if found and scheme.lower() not in ("postgresql", "postgres"):
        name = scheme if scheme.replace("+", "").replace(":", "").isalnum() else "?"
        if name.lower() in ("http", "https"):
            return "it is the address of a web page", f"Copy the connection string of the database. {_FORM}"
        return f'its scheme "{name}" is not that of PostgreSQL', _FORM
    if found:
        known = {each.keyword.decode() for each in pq.Conninfo.get_defaults()} | {"ssl"}
        unknown = [key for key, _ in parse_qsl(urlsplit(f"x://{rest}").query) if key not in known]
        if unknown and all(key.isidentifier() for key in unknown):
            names = " and ".join(f'"{key}"' for key in dict.fromkeys(unknown))
            word = "parameter" if len(set(unknown)) == 1 else "parameters"
            return (
                f"libpq does not know its {word} {names}",
                "Leave them out: they are meant for the driver of the application, not for PostgreSQL.",
            )
    elif "=" not in text:
        local = f" For a database of this machine: dbname={text}" if text.isidentifier() else ""
        return "it is neither a URL nor a list of key=value", f"{_FORM}{local}"
    return "libpq cannot parse it" if "password" in text.lower() or "@" in text else reason, _FORM
