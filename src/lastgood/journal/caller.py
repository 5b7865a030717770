"""The caller of lastgood: user, machine and command line, for marks, journals and attestations.

The command line announces itself once at its start. A script that uses lastgood as a library has no command line; then
only texts that look like passwords are removed.
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
    """``words``: the command line without the program's name; ``scrub`` removes passwords from a text."""

    words: tuple[str, ...] = ()
    scrub: Callable[[str], str] = field(default_factory=redact.Scrubber)

    @property
    def command(self) -> str:
        """The command line as typed, without secrets; empty if there was none."""
        return redact.command_line(("lastgood", *self.words), self.scrub) if self.words else ""


_current = Caller()


def announce(words: Sequence[str] = (), scrub: Callable[[str], str] | None = None) -> None:
    """Set the caller of this process."""
    global _current
    _current = Caller(tuple(words), scrub or redact.Scrubber())


def current() -> Caller:
    """Return the caller."""
    return _current


def identity(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return the caller's fields for a journal entry. ``ssh``: the address of the SSH client; ``sudo_user``: the user
    before sudo; ``actor``: the user who started the pipeline; ``job``: its page; ``folder``: the working directory.
    Each is included only if it applies."""
    fields: dict[str, Any] = {"by": user(), "host": host()}
    if address := next(iter((environment.get("SSH_CONNECTION") or environment.get("SSH_CLIENT") or "").split()), ""):
        fields["ssh"] = address
    if sudo := environment.get("SUDO_USER"):
        fields["sudo_user"] = sudo
    if actor := environment.get("GITHUB_ACTOR") or environment.get("GITLAB_USER_LOGIN"):
        fields["actor"] = actor
    if job := _job(environment):
        fields["job"] = job
    with suppress(OSError):  # the folder may have been removed
        fields["folder"] = str(Path.cwd())
    fields |= {"command": _current.command, "lastgood": __version__, "pid": os.getpid()}
    return fields


def _job(environment: Mapping[str, str]) -> str:
    """Return the page of the GitLab or GitHub job that runs lastgood."""
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    server, repository, run = (environment.get(name, "") for name in names)
    github = f"{server}/{repository}/actions/runs/{run}" if server and repository and run else ""
    return environment.get("CI_JOB_URL") or github


def user() -> str:
    """Return the name of the user; ``uid 1000`` for a user without a name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def host() -> str:
    """Return the name of this machine."""
    return socket.gethostname()
