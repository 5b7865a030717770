"""Restore points as text and JSON: the list, a new one, and verdicts."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lastgood.points import NearbyFolder, PointVerdict, RestorePoint, display_path, name_in, pins
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units


def document(point: RestorePoint) -> dict[str, Any]:
    """Return a restore point as JSON. Without a manifest, the keys that only it can fill are absent."""
    body: dict[str, Any] = {
        "name": point.path.name,
        "path": str(point.path),
        "kind": "dump",
        "made_at": point.made_at.isoformat(),
        "time_source": point.time_source,
        "bytes": point.size,
        "known": point.manifest is not None,
        "emergency": point.is_emergency,
        "problem": point.problem,
        "pinned": pin.reason if (pin := pins.pin_of(point.path)) is not None else None,
    }
    if point.manifest is not None:
        facts = point.manifest.facts
        body |= {
            "database": point.manifest.database,
            "label": point.manifest.label,
            "form": point.manifest.form,
            "sha256": point.manifest.sha256,
            "rows": facts.rows,
            "tables": len(facts.tables),
            "migration": point.manifest.migration,
        }
        if (members := point.manifest.members) is not None:
            body["not_in_dump"] = {each: members.lines(each) for each in members.extensions}
    return body


def show_list(screen: Screen, store: Path, found: Sequence[RestorePoint], others: Sequence[NearbyFolder] = ()) -> None:
    """Print one line per restore point, newest first. ``others``: folders nearby that hold some, if the store is
    empty."""
    if not found:
        missing = "" if store.exists() else ", which does not exist yet"
        screen.say(f'No restore points in "{store}"{missing}. To make one: lastgood backup')
        for each in others:
            folder = display_path(each.folder)
            lead = f"{units.counted(each.count, 'restore point')} in {folder}:"
            screen.command(lead, f"lastgood points --store {shlex.quote(str(folder))}")
        return
    columns = (
        TableColumn("restore point", fold=True),
        TableColumn("made"),
        TableColumn("size", right=True),
        TableColumn("rows", right=True),
        TableColumn("known", fold=True),
    )
    screen.table(columns, [_row(store, point) for point in found])
    screen.out.print()
    for point in found:
        if point.problem:
            screen.say(f"{point.path.name}: {point.problem}", first="DAMAGED ", indent=8, style="bold red")
        if (pin := pins.pin_of(point.path)) is not None:
            screen.say(f"{point.path.name}, {pin.summary}", first="pinned  ", indent=8)
    screen.say(f"{units.counted(len(found), 'restore point')} in {store}. To verify them: lastgood points verify")


def _row(store: Path, point: RestorePoint) -> tuple[str, ...]:
    rows = units.number(point.manifest.facts.rows) if point.manifest is not None else ""
    known = "by its manifest" if point.manifest is not None else f"foreign; time by {point.time_source}"
    if point.is_emergency:
        known = "emergency backup"
    if point.problem:
        known = "DAMAGED, see below"
    return (
        name_in(store, point),
        units.moment(point.made_at).removesuffix(" UTC"),
        units.size(point.size),
        rows,
        known,
    )


def show_made(screen: Screen, point: RestorePoint, seconds: float, command: str) -> None:
    """Print the result of a backup. ``command``: the one that rolls back to it."""
    body = document(point)
    screen.say(f"Done: {point.path.name}, read back and verified.", style="bold green")
    screen.pairs(
        [
            ("Restore point", str(point.path)),
            ("Made", units.moment(point.made_at)),
            ("Content", f"{units.counted(body['rows'], 'row')} in {units.counted(body['tables'], 'table')}"),
            ("Migration", body["migration"] or ""),
            ("Size", f"{units.size(point.size)}, in {units.duration(seconds)}"),
        ]
    )
    screen.out.print()
    screen.command("To roll back to it:", command, style="bold")


def verdict(point: RestorePoint, found: PointVerdict) -> dict[str, Any]:
    """Return a restore point and its verdict as JSON."""
    place = {"line": found.line, "offset": found.offset}
    result = {
        "verdict": found.state,
        "valid": found.valid,
        "message": found.message,
        "hint": found.hint,
        "notes": list(found.notes),
        "cautions": list(found.cautions),
    }
    return {**document(point), **result, **place}


def show_verdicts(screen: Screen, verdicts: Sequence[tuple[RestorePoint, PointVerdict]]) -> None:
    """Print each verdict, followed by the reason and the place of a failure."""
    for point, found in verdicts:
        style = "" if found.valid else "bold red"
        screen.say(f"{found.state}: {point.path.name}", style=style)
        for text in (found.message, found.hint):
            if text:
                screen.say(text, first="  ", indent=2)
        for text in found.cautions:
            screen.say(text, first="  caution: ", indent=11, style="yellow")
        for text in found.notes:
            screen.say(text, first="  note: ", indent=8)
    valid = sum(found.valid for _, found in verdicts)
    screen.say(f"{valid} of {units.counted(len(verdicts), 'restore point')} valid.", style="bold")
