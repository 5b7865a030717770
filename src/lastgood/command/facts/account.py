"""The facts of a restore point, a kept database, or a database given by its URL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psycopg

from lastgood import points
from lastgood.context import BACKGROUND, Context
from lastgood.errors import NOT_REACHED, BadPoint, LastgoodError
from lastgood.events import Note, reported
from lastgood.facts import Facts
from lastgood.facts.of_database import facts_at
from lastgood.postgres import errors as server_errors
from lastgood.postgres.kept import is_kept
from lastgood.postgres.server import Target
from lastgood.text import redact


def of_database(
    target: Target,
    *,
    like: Facts | None = None,
    digests: bool = True,
    context: Context = BACKGROUND,
) -> Facts:
    """Read a database in one snapshot. ``like`` makes the facts comparable with others. Without ``digests``, rows are
    only counted. Raises Failed."""
    with reported(context.emit, "facts", "read the database") as stage:
        try:
            facts = facts_at(target, like=like, digests=digests, context=context)
        except psycopg.Error as error:
            # Without an SQLSTATE there was no session yet: most likely the login failed.
            error_context: server_errors.Context = "connect" if error.sqlstate is None else "any"
            raise server_errors.failed(error, "read the database", context=error_context, state=NOT_REACHED) from error
        stage.detail = facts.summary
    return facts


def of_point(
    store: Path,
    names: Sequence[str],
    *,
    database: str | None = None,
    context: Context = BACKGROUND,
) -> Facts:
    """Read a restore point, or the several files of one, from end to end without restoring it. ``database`` selects one
    from a cluster dump. Raises BadPoint, Interrupted."""
    point = points.find_by_names(store, names)
    with reported(context.emit, "facts", f"read {point.path.name}") as stage:
        verified = points.read_whole(point, database=database, stage="facts", context=context)
        stage.detail = verified.facts.summary
    if verified.lack is not None:
        context.emit(Note("; ".join([f"partial: {verified.lack.message}", *map(str, verified.orphans)])))
    return verified.facts


def of_named(
    names: Sequence[str],
    store: Path,
    *,
    server: Target | None = None,
    like: Facts | None = None,
    database: str | None = None,
    context: Context = BACKGROUND,
) -> Facts:
    """Return the facts of a database if ``names`` is one URL, or one kept database of ``server``; otherwise those of a
    restore point."""
    if len(names) == 1 and redact.is_url(names[0]):
        return of_database(Target.parse(names[0]), like=like, context=context)
    if len(names) == 1 and server is not None and _is_kept(server, store, names[0]):
        return of_database(server.at(names[0]), like=like, context=context)
    return of_point(store, names, database=database, context=context)


def _is_kept(server: Target, store: Path, name: str) -> bool:
    try:
        points.find(store, name)
    except BadPoint:
        with suppress(LastgoodError, psycopg.Error):  # otherwise report the missing restore point
            return is_kept(server, name)
    return False
