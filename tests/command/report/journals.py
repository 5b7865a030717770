"""Handmade journals: of any time, user and version."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

RUN = "20261122-031500-9f3c1a70"
BEGAN = datetime.fromisoformat("2026-11-22T03:15:00+00:00")
ANN = {"by": "ann", "host": "db1", "ssh": "203.0.113.7", "command": "lastgood rollback --yes", "lastgood": "0.1.0"}
PLAN: dict[str, Any] = {
    "run": RUN,
    "server": "",
    "server_version": "18.1",
    "live": "crm",
    "live_oid": 5,
    "kept": "crm_old_9f3c1a70",
    "point": {"path": "backups/crm.sql", "made_at": "2026-11-21T22:00:00Z", "bytes": 10},
    "loss": [
        {
            "schema_name": "public",
            "name": "contacts",
            "live_rows": 12,
            "point_rows": 10,
            "written_since": 2,
            "by": "created_at",
        }
    ],
    "checklist": {"overrides": [{"item": "room", "reason": "it fits", "by": "ann", "at": "2026-11-22T03:14:00Z"}]},
}


def journal(state: Path, *entries: dict[str, Any], run: str = RUN, began: datetime = BEGAN) -> Path:
    """Write entries, one a second unless ``at`` gives the seconds since the beginning."""
    folder = state / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run}.jsonl"
    lines = []
    for number, entry in enumerate(entries):
        at = began + timedelta(seconds=entry.pop("at", number))
        lines.append(json.dumps({"at": at.isoformat(timespec="milliseconds"), **entry}) + "\n")
    path.write_text("".join(lines))
    return path


def switched(**begun: Any) -> list[dict[str, Any]]:
    """A rollback that went well."""
    return [
        {"event": "begun", "kind": "rollback", **ANN, "folder": "/srv", "live": "crm", **begun, "plan": PLAN},
        {"event": "stage", "name": "build", "title": "build the restored database"},
        {"event": "doing", "step": "build"},
        {"event": "done", "step": "build", "result": {"oid": 7, "detail": "10 rows"}},
        {"event": "stage done", "name": "build", "seconds": 1.5, "detail": "10 rows"},
        {"event": "doing", "step": "swap"},
        {"event": "done", "step": "swap", "result": {"detail": "8 ms"}},
        {"event": "ended", "status": "done", "report": {"seconds": {"total": 7.0, "read_outage": 0.008}, "tables": []}},
    ]
