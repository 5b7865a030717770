"""Shell completion of restore points and runs. It does not fail or wait: on errors the list is empty."""

from __future__ import annotations

from pathlib import Path

import typer

from lastgood.config.values import WrongInFile, folder
from lastgood.errors import LastgoodError


def _folder(name: str, ctx: typer.Context) -> Path | None:
    before = ctx.parent.params if ctx.parent is not None else {}
    given = {key: value for key, value in (*before.items(), *ctx.params.items()) if value is not None}
    try:
        return folder(name, given)
    except (LastgoodError, WrongInFile):
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
    state = _folder("state", ctx)
    if state is None:
        return []
    try:
        found = sorted((each.name for each in (state / "runs").iterdir()), reverse=True)
    except OSError:
        return []
    names = [name.removesuffix(".jsonl") for name in found if name.endswith(".jsonl")]
    return [name for name in names if name.startswith(incomplete)]
