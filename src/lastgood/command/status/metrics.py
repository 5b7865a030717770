"""The status as Prometheus reads it: the text format, for the textfile collector of node_exporter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from lastgood.points.point import RestorePoint
from lastgood.status import Status
from lastgood.text.redact import visible_lines


class Metric(NamedTuple):
    """One measurement. ``name`` is without the prefix; its unit is its last word, as Prometheus wants it."""

    name: str
    meaning: str
    value: float
    kind: Literal["gauge"] = "gauge"


def text(status: Status, points: Sequence[RestorePoint]) -> str:
    """Return all metrics of one database in the text format 0.0.4, which node_exporter accepts without time stamps.
    ``points`` are the restore points of its store, the newest first."""
    label = visible_lines(status.live.name).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    lines = []
    for each in _metrics(status, points):
        name = f"lastgood_{each.name}"
        lines += [f"# HELP {name} {each.meaning}", f"# TYPE {name} {each.kind}"]
        lines.append(f'{name}{{database="{label}"}} {each.value:.15g}')
    return "\n".join(lines)


def _metrics(status: Status, points: Sequence[RestorePoint]) -> Iterator[Metric]:
    live = status.live
    yield Metric("open", "Whether the live database accepts connections.", live.open)
    yield Metric("sessions", "Client sessions in the live database.", live.sessions)
    if live.bytes is not None:
        yield Metric("size_bytes", "The size of the live database.", live.bytes)
    yield Metric("run_in_progress", "Whether a run is working on the live database.", bool(status.working))
    yield Metric("writes_blocked", "Whether a run blocks writes.", status.fence is not None)
    stopped = status.application is not None and status.application.state == "stopped"
    yield Metric("application_stopped", "Whether lastgood stopped the application on this machine.", stopped)
    yield Metric("pools_paused", "Pools of PgBouncer that are paused.", sum(each.paused for each in status.pools))
    yield Metric("unfinished_runs", "Unfinished runs.", _stopped(status))
    yield Metric("kept_databases", "Databases that an undo can make live again.", len(status.kept))
    yield Metric("kept_bytes", "Their total size.", sum(each.bytes or 0 for each in status.kept))
    overdue = sum(each.overdue for each in status.post_mortems)
    yield Metric("post_mortems_overdue", "Rollbacks whose post-mortem is overdue.", overdue)
    if status.drill is not None:
        yield Metric("drill_overdue", "Whether a drill is overdue.", status.drill.overdue)
        if status.drill.last is not None:
            yield Metric("drill_timestamp_seconds", "When the last drill passed.", status.drill.last.timestamp())
    usable = [each for each in points if not each.problem and not each.is_emergency]
    yield Metric("restore_points", "Restore points without visible damage, except emergency backups.", len(usable))
    yield Metric("restore_points_bytes", "Their total size.", sum(each.size for each in usable))
    if usable:
        made = max(each.made_at for each in usable)
        yield Metric("restore_point_timestamp_seconds", "When the newest of them was made.", made.timestamp())


def _stopped(status: Status) -> int:
    runs = sum(not run.working for run in status.unfinished) + sum(not run.working for run in status.finishing)
    deployment = status.deployment is not None and not status.deployment.working
    return runs + deployment + len(status.leftovers)
