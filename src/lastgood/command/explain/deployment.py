"""A deployment explained from its journal: whether it was deployed, taken back, or left for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from lastgood.journal.reader import Recorded

TITLES = {"migrate": "run the migration"}
_LATER = "lastgood status   # shows the current state"


def told(found: Recorded) -> tuple[Literal["done", "walked_back", "undone", "stopped"], str, tuple[str, ...]]:
    """The outcome, a sentence about it, and what to run next."""
    begun, ended, run, live = next(found.of("begun"), None), found.ended, found.run, found.live
    if begun is not None and begun.fields.get("dry_run"):
        if ended is not None and ended.status == "stopped":
            return "stopped", str(ended.error["state"]), (_LATER, str(ended.error["hint"]))
        state = f'It was a trial on a clone: "{live}" was not touched.'
        return ("done" if ended is not None and ended.status == "done" else "walked_back"), state, (_LATER,)
    point = next((each.text("path") for each in found.of("point")), "")
    report: Mapping[str, Any] = ended.report if ended is not None else {}
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
        f'The journal ends after the migration began: "{live}" is as the migration left it. The deployment is '
        "still active, or was killed.",
        (_LATER, "lastgood recover   # goes back to its restore point", f"lastgood deploy --accept {run}"),
    )
