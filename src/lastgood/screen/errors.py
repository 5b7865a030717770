"""An error as the operator reads it: the message, the state of the live database, the next step."""

from __future__ import annotations

from typing import Any

from lastgood.errors import BadPoint, LastgoodError
from lastgood.screen.screen import Screen


def show(screen: Screen, error: LastgoodError) -> None:
    """Print the message, the state of the live database and the hint as paragraphs on stderr."""
    screen.say(error.message, first="error: ", indent=7, style="bold red", stderr=True, lines=error.lines)
    if error.state:
        screen.say(error.state, first="state: ", indent=7, style="bold", stderr=True)
    if error.hint:
        screen.say(error.hint, first="next:  ", indent=7, stderr=True, lines=True)


def document(error: LastgoodError) -> dict[str, Any]:
    """Return the error as JSON: ``{"error": {"code", "message", "hint", "state", "exit_status"}}``, with ``line`` and
    ``offset`` for a bad restore point, and the content of ``error.details``."""
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
