"""Who calls lastgood, from where and with what words: for the record of what is done, which other people read later.

The command line says it once at its start; whoever begins a record, deep inside, asks here. Without a command line (a
script that uses lastgood as a library) there are no words, and texts are cleaned by what passwords look like alone.

Who runs lastgood, and where: for marks, records and attestations, which other people read later.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lastgood import __version__
from lastgood.text import redact


@dataclass(frozen=True, slots=True)
class Caller:
    """``words`` is the command line without the program's name; ``scrub`` takes passwords out of a text."""

    words: tuple[str, ...] = ()
    scrub: Callable[[str], str] = field(default_factory=redact.Scrubber)

    @property
    def command(self) -> str:
        """The command line as it would be typed, without secrets; empty where there was none."""
        return redact.command_line(("lastgood", *self.words), self.scrub) if self.words else ""


_current = Caller()


def announce(words: Sequence[str] = (), scrub: Callable[[str], str] | None = None) -> None:
    """Says who calls from now on, in this process."""
    global _current
    _current = Caller(tuple(words), scrub or redact.Scrubber())


def current() -> Caller:
    """Who calls."""
    return _current


def identity(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What a record says of who began or went on with something, and in what ``folder``. ``ssh`` is the address that
    the person came from, ``sudo_user`` who he was before he became another, ``actor`` who set off the pipeline and
    ``job`` where to read about that; each only where it is so."""
    found: dict[str, Any] = {"by": user(), "host": host()}
    if address := next(iter((environment.get("SSH_CONNECTION") or environment.get("SSH_CLIENT") or "").split()), ""):
        found["ssh"] = address
    if sudo := environment.get("SUDO_USER"):
        found["sudo_user"] = sudo
    if actor := environment.get("GITHUB_ACTOR") or environment.get("GITLAB_USER_LOGIN"):
        found["actor"] = actor
    if job := _job(environment):
        found["job"] = job
    with suppress(OSError):  # it may be gone
        found["folder"] = str(Path.cwd())
    found |= {"command": _current.command, "lastgood": __version__, "pid": os.getpid()}
    return found


def _job(environment: Mapping[str, str]) -> str:
    """The page of the pipeline's job that runs us, as GitLab or GitHub names it."""
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    server, repository, run = (environment.get(name, "") for name in names)
    github = f"{server}/{repository}/actions/runs/{run}" if server and repository and run else ""
    return environment.get("CI_JOB_URL") or github


def user() -> str:
    """The name of the user; ``uid 1000`` for one who has none, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def host() -> str:
    """The name of this machine."""
    return socket.gethostname()
