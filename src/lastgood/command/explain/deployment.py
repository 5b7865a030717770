"""A deployment explained from its journal: whether it was deployed, taken back, or left for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

TITLES = {"migrate": "run the migration"}
_LATER = "lastgood status   # what the server says now"


def told(
    entries: Sequence[Mapping[str, Any]], run: str
) -> tuple[Literal["done", "walked_back", "undone", "stopped"], str, tuple[str, ...]]:
    """The outcome, a sentence about it, and what to run next."""
    begun = next((each for each in entries if each["event"] == "begun"), {})
    ended = next((each for each in reversed(entries) if each["event"] == "ended"), None)
    live = str(begun.get("live", ""))
    point = next((str(each["path"]) for each in entries if each["event"] == "point"), "")
    if begun.get("dry_run") and (ended or {}).get("status") == "stopped":
        error = ended["error"] if ended is not None else {}
        return "stopped", str(error["state"]), (_LATER, str(error["hint"]))
    if begun.get("dry_run"):
        state = f'It was a trial on a clone: "{live}" was not touched.'
        return ("done" if ended is not None and ended["status"] == "done" else "walked_back"), state, (_LATER,)
    report: Mapping[str, Any] = (ended or {}).get("report") or {}
    status = report.get("status")
    if status == "deployed":
        return (
            "done",
            f'"{live}" was migrated, and was no worse than before.',
            (_LATER, f"lastgood rollback {point}   # goes back to the time before it"),
        )
    if status == "rolled back":
        kept = report.get("kept")
        state = f'The deployment failed, and "{live}" was put back to the restore point that was made before it.'
        undo = (f"{report['undo_command']}   # brings back what was replaced",) if kept else ()
        return "undone", state, (_LATER, *undo)
    if status == "unchanged":
        return "walked_back", f'The deployment failed: "{live}" was kept as it was before it.', (_LATER,)
    if status == "not rolled back":
        state = f'The deployment failed and could not be taken back: "{live}" is as the migration left it.'
        return "stopped", state, (_LATER, "lastgood recover", f"lastgood rollback {point}")
    if not point:
        return "walked_back", f'It ended before the migration began: "{live}" was not touched.', (_LATER,)
    return (
        "stopped",
        f'The journal ends after the migration began: "{live}" is as it left it. The deployment is still at work, or '
        "was killed.",
        (_LATER, "lastgood recover   # goes back to its restore point", f"lastgood deploy --accept {run}"),
    )
