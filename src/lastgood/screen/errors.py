"""An error as the operator reads it: what failed, in what state the live database is, what to do next."""

from __future__ import annotations

from typing import Any

from lastgood.errors import BadPoint, LastgoodError
from lastgood.screen.screen import Screen


def show(screen: Screen, error: LastgoodError) -> None:
    """The message, the state of the live database and the hint, each a paragraph of its own on stderr."""
    screen.say(error.message, first="error: ", indent=7, style="bold red", stderr=True, lines=error.lines)
    if error.state:
        screen.say(error.state, first="state: ", indent=7, style="bold", stderr=True)
    if error.hint:
        screen.say(error.hint, first="next:  ", indent=7, stderr=True, lines=True)


def document(error: LastgoodError) -> dict[str, Any]:
    """The same for programs: ``{"error": {"code", "message", "hint", "state", "exit_status"}}``; ``line`` and
    ``offset`` too when a restore point is bad and they are known, and whatever ``error.details`` has."""
    body: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "state": error.state,
        "exit_status": error.exit_status,
    }
    if isinstance(error, BadPoint):
        body.update({"line": error.line, "offset": error.offset})
    return {"error": {**body, **error.details}}
