"""Shell completion of restore points, runs, drills and items. It does not fail or wait: on errors the list is empty."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import typer

from lastgood.config.values import InvalidInFile, folder
from lastgood.errors import LastgoodError

# The beginning of a journal has the kind of the run, its end how it ended; neither is parsed here, only recognised.
_KIND = re.compile(rb'\{"at": "[^"]*", "event": "\w+", "kind": "([\w-]+)"')
_ENDED = re.compile(rb'"event": "ended", "status": "(\w+)"')
_NEWEST, _HEAD, _TAIL = 200, 200, 1 << 18
_SWITCH = frozenset({"rollback", "undo", "recover", "deploy"})


def _folder(name: str, ctx: typer.Context) -> Path | None:
    before = ctx.parent.params if ctx.parent is not None else {}
    given = {key: value for key, value in (*before.items(), *ctx.params.items()) if value is not None}
    try:
        return folder(name, given)
    except (LastgoodError, InvalidInFile):
        return None


def points(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the file names in the store. Files are not read, because completion must be fast."""
    store = _folder("store", ctx)
    return _names(store, incomplete) if store is not None else []


def _names(store: Path, incomplete: str) -> list[str]:
    try:
        found = sorted((each.name for each in store.iterdir()), reverse=True)
    except OSError:
        return []
    return [name for name in found if name.startswith(incomplete) and name[0] != "." and not name.endswith(".json")]


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the runs with a journal on this machine, newest first."""
    return _runs(ctx, incomplete, lambda kind, end: True)


def unfinished_runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the runs that are active or unfinished, newest first."""
    return _runs(ctx, incomplete, lambda kind, end: end in ("", "stopped"))


def switched_runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the runs that switched databases, newest first."""
    return _runs(ctx, incomplete, lambda kind, end: kind in _SWITCH and end == "done")


def drills(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the drills with evidence on this machine, newest first."""
    state = _folder("state", ctx)
    try:
        found = sorted((each.name for each in (state / "drills").iterdir()), reverse=True) if state else []
    except OSError:
        return []
    return [name for name in found if name.startswith(incomplete)]


def items(incomplete: str) -> list[str]:
    """Return the items of the checklist."""
    from lastgood.checklist import ITEMS  # needs pydantic: loaded only for this

    return [each.name for each in ITEMS if each.name.startswith(incomplete)]


def _runs(ctx: typer.Context, incomplete: str, fits: Callable[[str, str], bool]) -> list[str]:
    state = _folder("state", ctx)
    try:
        found = sorted((state / "runs").glob("*.jsonl"), reverse=True) if state else []
        named = [each for each in found if each.name.startswith(incomplete)][:_NEWEST]
        return [each.stem for each in named if fits(*_course(each))]
    except OSError:
        return []


def _course(journal: Path) -> tuple[str, str]:
    """Return the kind of a run and the status with which it ended; "" for what its journal does not say."""
    with journal.open("rb") as file:
        head = file.read(_HEAD)
        file.seek(max(0, journal.stat().st_size - _TAIL))
        tail = file.read()
    kind, ends = _KIND.match(head), _ENDED.findall(tail)
    return kind[1].decode() if kind else "", ends[-1].decode() if ends else ""
