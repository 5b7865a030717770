"""The metrics of `status --metrics`, as node_exporter reads them."""

from __future__ import annotations

import re
import time
from pathlib import Path

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood

# A line of the text format: a comment, or a name with labels and a value.
LINE = re.compile(r'# (?:HELP lastgood_\w+ .+|TYPE lastgood_\w+ gauge)|(lastgood_\w+)\{database="([^"]+)"\} (\S+)')


def metrics(text: str, database: str) -> dict[str, float]:
    """The values by name. Every line must be one of the format."""
    found = {}
    for line in text.splitlines():
        parts = LINE.fullmatch(line)
        assert parts is not None, line
        if parts[1]:
            assert parts[2] == database
            found[parts[1].removeprefix("lastgood_")] = float(parts[3])
    return found


def test_an_open_database_without_a_restore_point(lastgood: Lastgood, database: str) -> None:
    outcome = lastgood("status", "--metrics")
    assert (outcome.status, outcome.err) == (0, "")
    found = metrics(outcome.out, database)
    assert found.pop("size_bytes") > 1_000_000
    assert found == {
        "open": 1,
        "sessions": 0,
        "run_in_progress": 0,
        "writes_blocked": 0,
        "application_stopped": 0,
        "pools_paused": 0,
        "unfinished_runs": 0,
        "kept_databases": 0,
        "kept_bytes": 0,
        "post_mortems_overdue": 0,
        "drill_overdue": 1,
        "restore_points": 0,
        "restore_points_bytes": 0,
    }


def test_after_a_rollback(lastgood: Lastgood, server: EmbeddedServer, database: str) -> None:
    for arguments in (("backup",), ("rollback", "--yes")):
        assert lastgood(*arguments, "--quiet").status == 0
    Path("backups/damaged.sql").write_bytes(b"")
    Path("backups/of_another.sql").write_bytes(next(Path("backups").glob("crm_*.sql")).read_bytes())
    found = metrics(lastgood("status", "--metrics").out, database)
    assert (found["kept_databases"], found["unfinished_runs"]) == (1, 0)
    assert found["kept_bytes"] > 1_000_000
    # The emergency backup and the damaged file are none that a rollback would choose.
    assert found["restore_points"] == 2
    assert 0 <= time.time() - found["restore_point_timestamp_seconds"] < 300


def test_it_contradicts_json(lastgood: Lastgood, database: str) -> None:
    outcome = lastgood("status", "--metrics", "--json")
    assert outcome.status == 2
    assert outcome.document["error"]["message"] == "cannot print metrics: --metrics and --json are mutually exclusive"
