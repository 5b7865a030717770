"""Removal of what a plan lists, one item after another."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lastgood import points
from lastgood.command.prune.plan import NAMED, POST_MORTEM_WITHIN, PruneCandidate, PrunePlan
from lastgood.context import BACKGROUND, Context
from lastgood.errors import NOT_REACHED, Blocked, LastgoodError, Refused, continued
from lastgood.events import Emit, Note, StageDone, StageStarted
from lastgood.in_place.kept import left_by_runs, remove_schemas
from lastgood.journal import recording
from lastgood.journal.run_names import new_run
from lastgood.points.in_use import Need, needs
from lastgood.points.manifest import has_manifest, manifest_path
from lastgood.postgres import clock, database, lock
from lastgood.postgres.leftover import drop_leftover, leftovers
from lastgood.postgres.lock import lock_live
from lastgood.postgres.mark import marked
from lastgood.postgres.roles import build_role
from lastgood.postgres.server import Connection, Target
from lastgood.text.quoting import argument


def run(
    target: Target,
    plan: PrunePlan,
    context: Context = BACKGROUND,
    *,
    post_mortem_within: float = POST_MORTEM_WITHIN,
) -> dict[str, Any]:
    """Remove what the plan lists, one after another. OIDs, marks and needs are checked again, because an operator may
    confirm the plan long after it was made."""
    with database.connect_maintenance(target, plan.live) as maintenance:
        lock_live(maintenance, plan.live, lambda held: _as_planned(held, target.at(plan.live), plan))
        going = [each.name for each in plan.going]
        kept = recording.begin_if_possible(
            context,
            new_run(clock.now(maintenance)),
            "prune",
            skew=clock.skew(maintenance),
            live=plan.live,
            going=going,
        )
        with recording.recording(kept, context.emit) as emit:
            paths = [Path(each.path) for each in plan.going if each.path is not None]
            needed = needs(
                maintenance,
                plan.live,
                paths,
                context.state,
                post_mortems=bool(post_mortem_within),
                leftovers=left_by_runs(maintenance, target),
            )
            document = _removed(maintenance, target, plan, needed, emit)
            recording.write_end(kept, "done", removed=document["removed"])
    return document


def _as_planned(maintenance: Connection, target: Target, plan: PrunePlan) -> None:
    """Check under the lock that everything the plan keeps still exists: another operator may have removed it since.
    Raises Refused."""
    oids = {each.oid for each in database.all_databases(maintenance)}
    runs = {mark.run for _, mark in left_by_runs(maintenance, target)}
    roles = {each.name for each in build_role.left(maintenance)}
    for each in plan.candidates:
        if each.kind == "kept schemas":
            there = each.run in runs
        elif each.kind == "role":
            there = each.name in roles
        else:
            there = Path(each.path).exists() if each.path is not None else each.oid in oids
        if not each.remove and not there:
            raise Refused(
                f'cannot prune: "{each.name}", which the plan keeps, was removed since the plan was made',
                hint="Run lastgood prune again to make a new plan.",
                state="Nothing was removed.",
            )


def _removed(
    maintenance: Connection, target: Target, plan: PrunePlan, needed: Mapping[str, Need], emit: Emit
) -> dict[str, Any]:
    removed: list[str] = []
    for each in plan.going:
        emit(StageStarted("prune", f"remove {each.name}"))
        try:
            gone = _remove(maintenance, target, plan.live, each, needed.get(each.path or ""), emit)
        except LastgoodError as error:
            error.state = already_removed(removed, error.state)
            raise
        if gone:
            removed.append(each.name)
            emit(StageDone("prune", 0.0, each.name))
    return {"format": 1, "live": plan.live, "status": "done", "removed": removed}


def already_removed(removed: Sequence[str], state: str) -> str:
    """Return the state line of an error after these items were removed. ``state``: the line of the failed item."""
    if not removed:
        return state
    names = ", ".join(f'"{name}"' for name in removed)
    return f"Removed before the error: {names}." + (f" {state}" if state not in ("", NOT_REACHED) else "")


def _remove(
    maintenance: Connection, target: Target, live: str, each: PruneCandidate, need: Need | None, emit: Emit
) -> bool:
    """Remove one item. Returns False, after a note, for an item that is now needed or no longer of its kind."""
    if each.kind == "leftover":
        unmarked = next((one for one in leftovers(maintenance, live) if one.oid == each.oid), None)
        if unmarked is None:
            emit(Note(f'"{each.name}" is no longer a leftover; skipped'))
            return False
        drop_leftover(maintenance, target, unmarked, live)
    elif each.kind == "role":
        build_role.end(maintenance, target.at(live), each.name)
    elif each.kind == "kept schemas":
        remove_schemas(target.at(live), each.run, "kept", "undone")
    elif each.oid is not None:
        role = "kept" if each.kind == "kept database" else "copy"
        if each.oid not in {found.oid for found, mark in marked(maintenance) if mark.role == role}:
            emit(Note(f'"{each.name}" is no longer a {each.kind}; skipped'))
            return False
        if role == "copy":
            lock.take_over_copy(maintenance, each.name)
        try:
            database.drop(maintenance, each.name, each.oid)
        except Blocked as error:
            error.hint = continued(error.hint, f"Then run: lastgood prune {argument(each.name)}")
            raise
    elif each.path is not None:
        if need is not None and (need.unconditional or each.why != NAMED):
            emit(Note(f'"{each.name}" is now needed and was not removed: {need.why}'))
            return False
        _remove_point(Path(each.path))
    return True


def _remove_point(path: Path) -> None:
    # The manifest first: a dump without a manifest is still a restore point, a manifest alone is useless.
    if has_manifest(path):
        manifest_path(path).unlink()
    if path.is_symlink():
        path.unlink()
    elif path.is_dir() and (files := points.files_of_set(path)):
        # Other files in the folder are not part of the restore point.
        for file in files:
            file.unlink(missing_ok=True)
        with suppress(OSError):
            path.rmdir()
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
