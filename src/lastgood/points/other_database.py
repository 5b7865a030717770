"""Another running database as a restore point: a platform's restore into a new project, an instance that was restored
to a point in time, a branch. It is dumped with its facts, like the live database."""

from __future__ import annotations

from pathlib import Path

import psycopg

from lastgood.context import Context
from lastgood.errors import NOT_REACHED, UsageError
from lastgood.events import Caution
from lastgood.points.dump_point import take as dump
from lastgood.points.manifest import Form
from lastgood.points.point import RestorePoint
from lastgood.postgres import errors as server_errors
from lastgood.postgres.identity import identity
from lastgood.postgres.server import Target

LABEL = "elsewhere"


def take(url: str, live: Target, store: Path, form: Form, context: Context) -> RestorePoint:
    """Dump the database of ``url`` into the store. Raises UsageError for the live database itself, Failed when the
    database cannot be reached, and as ``dump_point.take`` does."""
    source = Target.parse(url)
    if source.keywords.get("password"):
        context.emit(
            Caution(
                "the password in --from is visible to other users of this machine while lastgood runs; "
                "use ~/.pgpass instead"
            )
        )
    try:
        with source.connect() as other, live.connect() as own:
            same = identity(other) == identity(own) and other.info.dbname == own.info.dbname
    except psycopg.Error as error:
        raise server_errors.failed(
            error, "reach the database of --from", context="connect", state=NOT_REACHED
        ) from error
    if same:
        raise UsageError(
            "cannot roll back: --from names the live database itself",
            hint="Give the URL of the other database.",
            state=NOT_REACHED,
        )
    return dump(source, store, label=LABEL, form=form, context=context)
