"""The record of a run without a journal on this machine, from the marks of its databases on the server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lastgood.checklist import Override
from lastgood.command.report import holdings
from lastgood.command.report.document import Holding, Participant, RunRecord, TimelineEntry
from lastgood.command.report.holdings import undone_by
from lastgood.command.report.inquiry import Inquiry
from lastgood.errors import NOT_REACHED, Refused
from lastgood.postgres.mark import OVERRIDE, Mark


def of_marks(inquiry: Inquiry, run: str) -> RunRecord:
    """Return the record from the marks of the run's databases. Raises Refused if there are none."""
    live = inquiry.target.dbname if inquiry.target is not None else ""
    seen = holdings.inspect(inquiry.target, live, None, inquiry.tables.pgbouncer, inquiry.state)
    marks = [(found, mark) for found, mark in seen.marks if mark.run == run]
    if not marks:
        reason = seen.problem or "no database or schema of this run exists on the server"
        raise Refused(
            f'cannot report on run "{run}": this machine has no journal of it, and {reason}',
            hint=f'Journals are in "{inquiry.state / "runs"}" of the machine that ran it (--state names another '
            "folder).",
            state=NOT_REACHED,
        )
    found, mark = marks[0]
    kind = mark.options.get("kind", "rollback")
    outcome = "switched" if mark.role == "kept" else "stopped"
    text = {
        "kept": f'The switch took place: the previous "{live}" is kept as "{found.name}".'
        if mark.options.get("way") != "in-place"
        else f'The switch took place: the previous objects of "{live}" are kept in the schemas "{found.name}".',
        "copy": f'The run was creating "{found.name}", which is incomplete.',
        "shadow": f'The run was building "{found.name}" and has not switched: "{live}" was not touched.',
    }[mark.role]
    return RunRecord(
        run=run,
        kind=kind,
        undoes=mark.options.get("undoes", ""),
        live=live,
        server=inquiry.target.place if inquiry.target is not None else "",
        server_version=seen.status.server_version if seen.status is not None else "",
        point=mark.point if kind == "rollback" else "",
        point_made_at=None,
        source="server",
        journal="",
        clock="server",
        skew=None,
        begun=mark.started,
        ended=mark.started,
        seconds=0.0,
        outcome=outcome,
        status="",
        state=text,
        reason="",
        error=None,
        commands=("lastgood status",),
        people=(Participant(at=mark.started, action="began", by=mark.user, host=mark.host),),
        timeline=(TimelineEntry(at=mark.started, kind="who", text=f"{mark.user} on {mark.host} began", seconds=None),),
        phases=(),
        planned=None,
        loss=(),
        proofs=(),
        not_compared=(),
        overrides=tuple(_overridden(mark)),
        attestations=(),
        hooks=(),
        health=None,
        watch=None,
        figures={},
        holdings=tuple(_of_marks(marks)),
        undone_by=tuple(undone_by(inquiry.state, run, seen)),
        remarks=(
            f'no journal on this machine: timeline, loss, proof and messages are in the journal on "{mark.host}"',
            "the marks on the server do not record when the run ended or whether its checks passed",
        ),
        after=None,
        plan=None,
        report=None,
    )


def _overridden(mark: Mark) -> Iterator[Override]:
    for name, reason in mark.options.items():
        if name.startswith(OVERRIDE):
            yield Override(item=name.removeprefix(OVERRIDE), reason=reason, by=mark.user, at=mark.started)


def _of_marks(ours: Sequence[tuple[Any, Mark]]) -> Iterator[Holding]:
    for found, mark in ours:
        what = {"kept": "previous database", "copy": "incomplete copy"}.get(mark.role, "restored database")
        yield Holding(what=what, name=found.name, now="present", detail=mark.role)
