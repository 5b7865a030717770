r"""Removal of passwords and control characters from all texts that people read: messages, reports, logs.

A URL's password is everything between the first colon of the user part and the *last* ``@``, as a person reads it.
libpq differs: it splits a password with a bare ``@`` or ``/``, and then shows the second half in an error as a host.

The name of a database or a table may contain any character: escape sequences that move the cursor, and line ends that
would forge a line of output. Such characters are shown as ``\x1b``, ``\n``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from lastgood.text.address import as_libpq

HIDDEN = "***"
# Shorter ones would match parts of ordinary words; they are hidden only in a password's place.
SHORTEST = 4

_URL = re.compile(r"(?P<head>\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:@?#'\"]*:)(?P<password>[^\s'\"]*)(?=@)")
_PAIR = re.compile(
    r"(?P<head>\b(?:pg)?(?:ssl)?password\s*=\s*)(?P<password>'(?:[^'\\]|\\.)*'|[^\s&'\"]+)", re.IGNORECASE
)
# SQL: CREATE ROLE x PASSWORD 'secret', as in the logs of servers.
_CLAUSE = re.compile(r"(?P<head>\bpassword\s+)(?P<password>'(?:[^']|'')*'?)", re.IGNORECASE)
# Secrets in commands of platforms: variables and options in a shell line, headers, tokens in URLs.
_IN_COMMANDS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?P<head>\b[A-Z0-9_]*(?:PASSWORD|PASSWD|PASSPHRASE|TOKEN|SECRET|API_?KEY|PRIVATE_KEY)=)"
        r"(?P<password>'[^']*'|\"[^\"]*\"|[^\s'\"&;]+)",
        r"(?P<head>(?:^|\s)--?(?:[\w-]+-)?(?:password|passwd|passphrase|token|secret|api-?key)[ =])"
        r"(?P<password>'[^']*'|\"[^\"]*\"|[^-\s'\"][^\s'\"]*)",
        r"(?P<head>(?i:\b(?:authorization|x-[\w-]+|api-?key|private-token)\s*:\s*(?:(?:bearer|basic|token|apikey)\s+)?))"
        r"(?P<password>(?!(?i:bearer|basic|token|apikey)\s)[^\s'\"]+)(?=['\"]|$)",
        r"(?P<head>(?i:[?&](?:[\w-]*(?:token|secret|passw(?:or)?d|api[-_]?key|signature)|key|sig|auth)=))"
        r"(?P<password>[^&\s'\"#]+)",
        r"(?P<head>\bhttps?://(?:hooks\.slack\.com/services/|discord(?:app)?\.com/api/webhooks/|hc-ping\.com/"
        r"|api\.telegram\.org/bot|[\w.-]+\.webhook\.office\.com/|events\.pagerduty\.com/integration/))"
        r"(?P<password>[^\s'\"?]+)",
        r"(?P<head>\bhttps?://)(?P<password>[^\s/:@?#'\"]+)(?=@)",
        r"(?P<head>\bcurl\b[^'\"]*\s(?:-u|--user)[ =]?['\"]?[^\s:'\"]+:)(?P<password>[^\s'\"]+)",
    )
)
_PLACES = (_URL, _PAIR, _CLAUSE, *_IN_COMMANDS)
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Hosts with their ports, before the slash of the database's name.
_HOSTS = re.compile(r"(?:(?:\[[^\]/]*\]|[^:/,\[\]]*)(?::\d*)?(?:,|(?=/|$)))+(?:/|$)")
_QUERY = re.compile(r"[?&](?:ssl)?password=([^&\s]*)", re.IGNORECASE)
_POSTGRES_URL = re.compile(r"postgres(?:ql)?://")

_CLAUSE_HIDDEN = rf"\g<head>'{HIDDEN}'"

# Names of options and variables with a secret: --password X, --api-token=X, PGPASSWORD=X.
_SECRET_NAME = re.compile(
    r"(?:^|[-_.])(?:pg)?(?:passw(?:or)?d|passphrase|pwd|secret|token|credentials?|api[-_]?key|private[-_]?key)"
    r"(?:[-_.]|$)",
    re.IGNORECASE,
)

# sh -c LINE
_FOR_SHELL = re.compile(r"-[a-z]*c")
_NAME = re.compile(r"[-\w.]+")


def is_url(text: str) -> bool:
    """Whether ``text`` is a URL of PostgreSQL, for libpq or for a driver of SQLAlchemy."""
    return _POSTGRES_URL.match(as_libpq(text)) is not None


def written_passwords(text: str) -> list[str]:
    """Every password in a connection URL or string, as it is written there."""
    text = as_libpq(text)
    if not is_url(text):
        return [match["password"].strip("'") for match in _PAIR.finditer(text)]
    passwords = _QUERY.findall(text)
    if needs_encoding(text):
        passwords += [match["password"] for match in _URL.finditer(text)]
    else:
        passwords += re.findall(r"^\w+://[^@/?:]*:([^@/?]*)@", text)
    return [password for password in passwords if password]


def needs_encoding(url: str) -> bool:
    """Whether a URL's password has characters that libpq would take for its end, or for an invalid escape."""
    match = _URL.match(url)
    if match is None:
        return False
    after_colon = url[match.end("head") :]
    user_part = re.match(r"([^@/?]*)@", after_colon)
    if user_part is not None:
        rest, _, query = after_colon[user_part.end() :].partition("?")
        cut = "@" in rest or ("@" in query and "=" not in query.partition("@")[0])
        return cut or _HOSTS.match(rest) is None or _PERCENT.search(user_part[1]) is not None
    # No "@" before the first slash: hosts and ports, or a password with a slash or a question mark in it.
    hosts_and_ports = re.match(r"\d+(,[^,/?@]*)*(?=[/?]|$)", after_colon) is not None
    return not hosts_and_ports or "@" in after_colon.partition("?")[0]


class Scrubber:
    """Replaces passwords by ``***``: known ones, and any text in a password's place.

    ``public`` are names that are printed anyway (user, database, host): a password equal to one of them is hidden only
    inside URLs, or every mention of the database "postgres" would be hidden.
    """

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def learn(self, passwords: Iterable[str], public: Iterable[str] = ()) -> None:
        """Add passwords, as written and as libpq decodes them."""
        names = set(public)
        for password in passwords:
            for form in {password, unquote(password), quote(password, safe="")}:
                if len(form) >= SHORTEST and form not in names:
                    self._secrets.add(form)

    def learn_from(self, conninfo: str, environment: Mapping[str, str], public: Iterable[str] = ()) -> None:
        """Add the passwords of a connection string or URL, and of libpq's variables."""
        passwords = written_passwords(conninfo)
        if needs_encoding(conninfo):
            # libpq splits such a password and shows the pieces in its messages.
            passwords += [piece for password in passwords for piece in re.split(r"[@/?:]", password)]
        self.learn(passwords, public)
        self.learn((environment[name] for name in ("PGPASSWORD", "PGSSLPASSWORD") if environment.get(name)), public)

    def __call__(self, text: str) -> str:
        """``text`` without passwords."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        for place in _PLACES:
            text = place.sub(_CLAUSE_HIDDEN if place is _CLAUSE else rf"\g<head>{HIDDEN}", text)
        return text


def scrubbed(value: Any, scrub: Callable[[str], str]) -> Any:
    """A document without passwords."""
    # Before encoding: JSON's escapes would change a password with a quote in it.
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return {key: scrubbed(each, scrub) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [scrubbed(each, scrub) for each in value]
    return value


def command_line(words: Sequence[str], scrub: Callable[[str], str]) -> str:
    """A command as it would be typed, without passwords: without those that ``scrub`` knows, and without the values of
    options and variables whose names mean a secret."""
    shown: list[str] = []
    for word, secret in zip(words, _secrets(words), strict=True):
        if secret:
            name = word[: len(word) - len(secret)]
            shown.append((shlex.quote(name[:-1]) + name[-1] if name else "") + HIDDEN)
        else:
            shown.append(shlex.quote(scrub(word)))
    return " ".join(shown)


def secrets_of(words: Sequence[str]) -> list[str]:
    """Every secret in a command that is recognisable by its place."""
    secrets = [secret for secret in _secrets(words) if secret]
    for word in words:
        secrets += [match["password"].strip("'\"") for place in _PLACES for match in place.finditer(word)]
    return [secret for secret in secrets if secret and not secret.startswith("$")]


def hidden(words: Sequence[str]) -> list[str]:
    """The words of a command with each of its secrets replaced."""
    scrub = Scrubber()
    return [
        word.removesuffix(secret) + HIDDEN if secret else scrub(word)
        for word, secret in zip(words, _secrets(words), strict=True)
    ]


def secrets_within(document: Any) -> Iterator[str]:
    """Every secret in a document: each of its lists of texts may be a command."""
    if isinstance(document, str):
        yield from secrets_of([document])
    elif isinstance(document, Mapping):
        for value in document.values():
            yield from secrets_within(value)
    elif isinstance(document, list | tuple):
        if all(isinstance(each, str) for each in document):
            yield from secrets_of(document)
        else:
            for each in document:
                yield from secrets_within(each)


def _secrets(words: Sequence[str]) -> list[str]:
    """For each word its secret part by the name of an option or a variable: the end of the word, or an empty text."""
    secrets: list[str] = []
    hide_next = False
    user_next = for_shell = False
    for word in words:
        name, equals, value = word.partition("=")
        option = name.strip("-")
        secret = _SECRET_NAME.search(option) is not None and _NAME.fullmatch(name) is not None
        secret = secret and not option.startswith("no-")
        if for_shell and not name.startswith("-"):
            secret = False  # a variable in a shell line ends before the line does; _IN_COMMANDS finds it
        for_shell = _FOR_SHELL.fullmatch(word) is not None
        if hide_next and not word.startswith("-"):
            secrets.append(word)
        elif user_next and ":" in word:
            secrets.append(word.partition(":")[2])
        else:
            secrets.append(value if secret and equals else "")
        hide_next = secret and not equals and name.startswith("-")
        user_next = word in ("-u", "--user")
    return secrets


def visible(text: str) -> str:
    """``text`` on one line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def visible_lines(text: str) -> str:
    """``text`` of several lines, with its line ends."""
    return text if text.isprintable() else "\n".join(map(visible, text.split("\n")))
