"""The plan of an undo: what is kept of a live database, and which part of it comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from lastgood.errors import NOT_REACHED, Refused
from lastgood.in_place import kept, names
from lastgood.journal.run_names import new_run, suffix
from lastgood.models import Frozen
from lastgood.plan.plan import Finding, PlannedPause, Way
from lastgood.postgres import clock, database
from lastgood.postgres.mark import BASE, unbelieved
from lastgood.postgres.server import Connection, Target
from lastgood.text.quoting import argument


class UndoPlan(Frozen):
    """The plan of an undo: ``live`` is kept as ``kept``, and ``arriving`` becomes ``live`` again. ``hooks``: the undone
    run stopped the application with hooks of its machine. In place, ``arriving`` and ``kept`` are the names of schemas,
    with * for the live name. ``base``: the restore point from which both databases differ."""

    run: str
    undoes: str
    live: str
    live_oid: int
    arriving: str
    arriving_oid: int
    kept: str
    original_comment: str | None
    hooks: bool = False
    base: str = ""
    way: Way = "by-name"
    pauses: tuple[PlannedPause, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class _Kept:
    """The source of an undo: a kept database, or the kept schemas of a run. ``hooks`` and ``base``: see
    ``UndoPlan``."""

    run: str
    name: str
    oid: int
    made_at: datetime
    way: Way = "by-name"
    original_comment: str | None = None
    hooks: bool = False
    base: str = ""
    invalid: bool = False


def _kept(maintenance: Connection, live: Target) -> Iterator[_Kept]:
    for found, mark in kept.left_by_runs(maintenance, live):
        if mark.role == "kept":
            yield _Kept(
                mark.run,
                found.name,
                found.oid,
                mark.started,
                way="in-place" if mark.options.get("way") == "in-place" else "by-name",
                original_comment=mark.original_comment,
                hooks=mark.options.get("hooks") == "yes",
                base=mark.options.get(BASE) or mark.point,
                invalid=found.invalid,
            )


def make(maintenance: Connection, target: Target, undoes: str | None) -> UndoPlan:
    """Return the plan to undo run ``undoes``, or the latest run of which something is kept. Raises Refused if there is
    none. Pauses and findings are empty."""
    live = target.dbname
    every = list(_kept(maintenance, target))
    wanted = [each for each in every if undoes in (None, each.run)]
    others = ", ".join(each.run for each in every if not each.invalid) or "none"
    if not wanted:
        ignored = unbelieved(maintenance, live)
        raise Refused(
            f'cannot undo: no database or schemas of "{live}" are kept' + (f' from run "{undoes}"' if undoes else ""),
            hint=ignored or f"Runs that can be undone: {others}. To show the current state: lastgood status",
        )
    found = max(wanted, key=lambda each: each.made_at)
    if found.invalid:
        raise Refused(
            f'cannot undo run "{found.run}": its kept database "{found.name}" is invalid, because dropping it was '
            "interrupted",
            hint=f"Remove it: lastgood prune {argument(found.name)}. Runs that can be undone: {others}.",
        )
    now = database.describe(maintenance, live)
    run = new_run(clock.now(maintenance))
    by_name = found.way == "by-name"
    return UndoPlan(
        run=run,
        undoes=found.run,
        live=live,
        live_oid=now.oid,
        arriving=found.name,
        arriving_oid=found.oid,
        kept=database.fit_name(live, suffix("undone", run)) if by_name else names.undone(run, "*"),
        original_comment=found.original_comment,
        hooks=found.hooks,
        base=found.base,
        way=found.way,
    )


def verify_unchanged(maintenance: Connection, target: Target, plan: UndoPlan) -> None:
    """Verify under the lock that what is exchanged is still that of the plan. Raises Refused."""
    now = make(maintenance, target, plan.undoes)
    if (now.live_oid, now.arriving_oid, now.arriving) != (plan.live_oid, plan.arriving_oid, plan.arriving):
        raise Refused(
            f'cannot undo run "{plan.undoes}": "{plan.live}" or what is kept of it changed since the plan was made',
            hint="Run lastgood status, then lastgood undo again, which makes a new plan.",
            state=NOT_REACHED,
        )
