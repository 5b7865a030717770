"""Connection strings that libpq cannot parse: the cause and the remedy of each. No message quotes a password."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import psycopg
from psycopg import conninfo, pq

from lastgood.config.options import NOTHING_READ
from lastgood.errors import UsageError
from lastgood.text import redact
from lastgood.text.address import as_libpq

_FORM = 'Give it as "postgresql://user@host:5432/name" or "host=… dbname=…".'
_ELSEWHERE = "remove the password from the URL and put it in ~/.pgpass or the variable PGPASSWORD."
_IPV6 = "Write it like postgresql://user@[::1]:5432/name."
# [YOUR-PASSWORD] of Supabase, <password>, ${PASSWORD}, {{ password }}, and the asterisks of a web console.
_PLACEHOLDER = re.compile(r"\[.*\]|<.*>|\$\w+|\$?\{.*\}|\*+")
_VARIABLE = re.compile(r"\$\w+|\$?\{.*\}|<.*>")
_ASSIGNED = re.compile(r"(?:export\s+)?([A-Z]\w*)\s*=\s*[\"']?postgres(?:ql)?[:+]")
_SEMICOLONS = re.compile(r"(?!password)\w+\s*=[^;\s']*;\s*\w+\s*=", re.IGNORECASE)
_HOST = re.compile(r"[\w-]+(?:\.[\w-]+)*(?::\d+)?(?:/\w+)?")
_BARE_IPV6 = re.compile(r"postgres(?:ql)?://(?:[^@/?]*@)?[0-9a-f]*:[0-9a-f:]*:[0-9a-f:.]*(?:[/?]|$)", re.IGNORECASE)
_SPACE = ("it contains a space", "Write a space as %20.")
# What libpq's message about a URL holds, the cause and the remedy.
_OF_URL = (
    ("unexpected spaces", *_SPACE),
    ("IPv6 host address", "the address of its host is incomplete", _IPV6),
    ("percent-encoded", 'a "%" in it begins no valid escape', "Write % as %25."),
    ("extra key/value separator", 'the value of a parameter contains "="', "Write = as %3D there."),
)


def check(text: str, origin: str) -> None:
    """Refuse a URL or connection string that libpq cannot parse, or that has a placeholder for its password.

    ``origin`` is its source. Raises UsageError. libpq's own message would quote parts of the password.
    """
    text = as_libpq(text)
    if any(_PLACEHOLDER.fullmatch(each) for each in redact.written_passwords(text)):
        raise UsageError(
            f"cannot use the connection string from {origin}: its password is a placeholder",
            hint=f"Replace the placeholder with the password of the role, or {_ELSEWHERE}",
            state=NOTHING_READ,
        )
    if _BARE_IPV6.match(text):
        raise UsageError(
            f"cannot parse the database URL from {origin}: its IPv6 address has no brackets",
            hint=_IPV6,
            state=NOTHING_READ,
        )
    if redact.is_url(text) and redact.needs_encoding(text):
        raise UsageError(
            f"cannot parse the database URL from {origin}: the password contains reserved characters",
            hint=f"Write @ as %40, : as %3A, / as %2F, ? as %3F and % as %25, or {_ELSEWHERE}",
            state=NOTHING_READ,
        )
    why, hint = _problem(text, origin)
    if why:
        raise UsageError(f"cannot parse the connection string from {origin}: {why}", hint=hint, state=NOTHING_READ)


def _problem(text: str, origin: str) -> tuple[str, str]:
    """Why libpq cannot parse a connection string, and the remedy; empty if it can."""
    if "://" not in text and _SEMICOLONS.match(text):  # libpq reads a single value: the name of a host, say
        return 'its parts are separated by ";"', 'Write it like "host=… port=… user=… dbname=…".'
    try:
        timeout = conninfo.conninfo_to_dict(text).get("connect_timeout", "0")
    except psycopg.ProgrammingError as error:
        reason = str(error).strip()
        if text.startswith("psql "):
            return "it is a command of psql", f"Give only the connection string in it. {_FORM}"
        return _of_url(text, reason, origin) if "://" in text else _of_text(text, reason)
    if redact.is_url(text) and " " in text:  # libpq before 17 accepts it
        return _SPACE
    if not str(timeout).lstrip("-").isdigit():
        return 'its "connect_timeout" is not a number', "Write it in seconds."
    return "", ""


def _of_url(text: str, reason: str, origin: str) -> tuple[str, str]:
    scheme, _, rest = text.partition("://")
    assigned = _ASSIGNED.match(text)
    if assigned is not None:
        return f'it begins with "{assigned[1]}="', "Give only the URL that follows."
    if scheme.lower() in ("http", "https"):
        return "it is the address of a web page", f"Copy the connection string of the database. {_FORM}"
    if scheme.lower() == "jdbc:postgresql":
        return "it is a URL for JDBC", f"libpq reads another form. {_FORM}"
    if scheme not in ("postgresql", "postgres"):
        name = scheme if scheme.replace("+", "").replace(":", "").isalnum() else "?"
        return f'its scheme "{name}" is not that of PostgreSQL', _FORM
    for sign, why, hint in _OF_URL:
        if sign in reason:
            return why, hint
    return _of_parameters(dict(parse_qsl(rest.partition("?")[2])), origin)


def _of_parameters(parameters: dict[str, str], origin: str) -> tuple[str, str]:
    from difflib import get_close_matches  # rarely needed

    known = [each.keyword.decode() for each in pq.Conninfo.get_defaults()]
    unknown = [key for key in parameters if key not in known and (key, parameters[key]) != ("ssl", "true")]
    if unknown == ["ssl"]:
        return 'libpq knows its parameter "ssl" only as ssl=true', "Write sslmode=require instead."
    if not unknown or not all(key.isidentifier() for key in unknown):
        return "libpq cannot parse it", _FORM
    names = " and ".join(f'"{key}"' for key in unknown)
    why = f"libpq does not know its {'parameter' if len(unknown) == 1 else 'parameters'} {names}"
    similar = get_close_matches(unknown[0], known, n=1, cutoff=0.8)
    if len(unknown) == 1 and similar:
        return why, f'Did you mean "{similar[0]}"?'
    meant = "Leave it out: it is" if len(unknown) == 1 else "Leave them out: they are"
    hint = f"{meant} meant for the driver of the application, not for PostgreSQL."
    if origin.isupper() and len(unknown) == len(parameters):
        hint += f'\nWithout them:\n  export LASTGOOD_DB="${{{origin}%%\\?*}}"'
    return why, hint


def _of_text(text: str, reason: str) -> tuple[str, str]:
    if _VARIABLE.fullmatch(text):
        return (
            "it is a placeholder",
            "Replace it with its value. LASTGOOD_DB and DATABASE_URL are read from the environment without an option.",
        )
    if re.match(r"postgres(?:ql)?:?/", text):
        return 'its scheme is not followed by "://"', _FORM
    if "=" in text:
        return "libpq cannot parse it" if "password" in text.lower() or "@" in text else reason, _FORM
    if text.isidentifier():
        return "it is neither a URL nor a list of key=value", f"{_FORM} For a database of this machine: dbname={text}"
    complete = f" With its scheme: postgresql://{text}" if _HOST.fullmatch(text) else ""
    return "it is neither a URL nor a list of key=value", f"{_FORM}{complete}"
