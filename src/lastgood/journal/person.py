"""Who runs lastgood, and where: for marks, records and attestations, which other people read later."""

from __future__ import annotations

import getpass
import os
import socket


def user() -> str:
    """The name of the user; ``uid 1000`` for one who has none, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def host() -> str:
    """The name of this machine."""
    return socket.gethostname()
