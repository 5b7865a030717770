"""Shell completion of restore points and runs. It never fails and never waits: no answer is an empty list."""

from __future__ import annotations

from pathlib import Path

import typer

from lastgood import config
from lastgood.errors import LastgoodError


def _settings(ctx: typer.Context) -> config.Settings | None:
    before = ctx.parent.params if ctx.parent is not None else {}
    given = {name: value for name, value in (*before.items(), *ctx.params.items()) if value is not None}
    try:
        return config.resolve(given)
    except LastgoodError:
        return None


def points(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of restore points in the store. Contents are not looked at: a key press must be answered at once."""
    settings = _settings(ctx)
    return _names(settings.store, incomplete) if settings is not None else []


def _names(store: Path, incomplete: str) -> list[str]:
    try:
        found = sorted((each.name for each in store.iterdir()), reverse=True)
    except OSError:
        return []
    return [name for name in found if name.startswith(incomplete) and name[0] != "." and not name.endswith(".json")]


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the runs that this machine has journals of, newest first."""
    settings = _settings(ctx)
    if settings is None:
        return []
    try:
        found = sorted((each.name for each in (settings.state / "runs").iterdir()), reverse=True)
    except OSError:
        return []
    names = [name.removesuffix(".jsonl") for name in found if name.endswith(".jsonl")]
    return [name for name in names if name.startswith(incomplete)]
