"""The two switches in place: the swap to proved staging schemas, and the undo from kept schemas.

Both are one ``move``. A mark is believed only in a schema that this role itself owns: every role that may create
schemas could forge one, and a mark of a kept schema holds definitions that are executed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from lastgood.errors import NOT_REACHED, Refused
from lastgood.in_place import marks, names
from lastgood.in_place.exchange.move import Moved, Waiting, ignore, move
from lastgood.in_place.exchange.transaction import SchemaMove, SchemaPair
from lastgood.in_place.marks import MarkedSchema, Role
from lastgood.in_place.survey import Survey
from lastgood.in_place.ties import Ties
from lastgood.postgres.mark import TRUSTED, of_undo
from lastgood.postgres.server import Connection

# An undo needs no definitions.
if TYPE_CHECKING:
    from lastgood.in_place.definitions.rewrite import Rewritten


def prepare_swap(
    connection: Connection,
    run: str,
    *,
    schemas: Iterable[str],
    wished: Ties,
    manifest: str,
    after: Rewritten | None = None,
) -> SchemaMove:
    """The move of a swap. ``schemas``: the live schemas that go back; those that the restore point does not have leave
    as a whole. ``wished``: the ties as the restore point had them. ``after``: the definitions, for ``complete``.

    Raises Refused unless each staging schema of the run is marked as proved against ``manifest``.
    """
    staged = marks.marked(connection, run=run, role="staging")
    if not staged:
        raise Refused(f'cannot switch: run "{run}" has no staging schemas', hint="Run lastgood status to see the runs.")
    _own(staged, "switch")
    unproved = [each.name for each in staged if each.mark.state != "proved" or each.mark.manifest != manifest]
    if unproved:
        raise Refused(
            f'cannot switch: staging schema "{unproved[0]}" is not proved',
            hint=f"Continue the run: lastgood resume {shlex.quote(run)}",
        )
    arriving = {each.mark.live: each.name for each in staged}
    return SchemaMove(
        run=run,
        pairs=tuple(
            SchemaPair(live, arriving.get(live), live in arriving, names.kept(run, live))
            for live in sorted({*schemas, *arriving})
        ),
        wished=wished,
        keeps="kept",
        staged=tuple(each.mark for each in staged),
        refresh=tuple((view.schema, view.name) for view in after.refresh) if after is not None else (),
        checks=after.checks if after is not None else (),
        columns=after.columns if after is not None else (),
        point=staged[0].mark.point,
        host=staged[0].mark.host,
        user=staged[0].mark.user,
        options={key: value for key, value in staged[0].mark.options.items() if key in ("kind", "hooks", TRUSTED)},
    )


def swap(
    connection: Connection,
    run: str,
    *,
    schemas: Iterable[str],
    wished: Ties,
    manifest: str,
    after: Rewritten | None = None,
    planned: Survey | None = None,
    waiting: Waiting = ignore,
    cancelled: Callable[[], bool] = lambda: False,
) -> Moved:
    """Switch to the proved staging schemas of the run; see ``prepare_swap`` and ``move``. Then call ``complete``."""
    wanted = prepare_swap(connection, run, schemas=schemas, wished=wished, manifest=manifest, after=after)
    return move(connection, wanted, planned=planned, waiting=waiting, cancelled=cancelled)


def prepare_undo(connection: Connection, undoes: str, run: str, *, role: Role = "kept") -> SchemaMove:
    """The move of run ``run`` that brings back what run ``undoes`` keeps. ``role`` is ``undone`` for what an undo
    keeps. Raises Refused when not all of its schemas are there."""
    back = marks.marked(connection, run=undoes, role=role)
    if not back or back[0].mark.kept is None:
        raise Refused(
            f'cannot undo: no {role} schemas of run "{undoes}" exist',
            hint="Run lastgood status to see the runs that can be undone.",
            state=NOT_REACHED,
        )
    _own(back, "undo")
    kept = back[0].mark.kept
    there = {each.mark.live: each.name for each in back}
    missing = [live for live in kept.schemas if live not in there]
    if missing:
        raise Refused(
            f'cannot undo run "{undoes}": its {role} schema for "{missing[0]}" no longer exists',
            hint="List restore points: lastgood points",
            state=NOT_REACHED,
        )
    return SchemaMove(
        run=run,
        pairs=tuple(
            SchemaPair(live, there[live], live in kept.existed, names.undone(run, live)) for live in kept.schemas
        ),
        wished=kept.ties,
        keeps="undone",
        checks=kept.own_checks,
        point=back[0].mark.point,
        host=back[0].mark.host,
        user=back[0].mark.user,
        options={"kind": "undo", "undoes": undoes, **of_undo(back[0].mark.options), **_trusted(back[0].mark.options)},
    )


def undo(
    connection: Connection,
    undoes: str,
    run: str,
    *,
    role: Role = "kept",
    waiting: Waiting = ignore,
    cancelled: Callable[[], bool] = lambda: False,
) -> Moved:
    """Move back; see ``prepare_undo`` and ``move``. Then call ``complete``."""
    return move(connection, prepare_undo(connection, undoes, run, role=role), waiting=waiting, cancelled=cancelled)


def _trusted(options: Mapping[str, str]) -> dict[str, str]:
    """The operator's trust in the code of the restore point, which holds for its undo too."""
    return {TRUSTED: options[TRUSTED]} if TRUSTED in options else {}


def _own(found: Iterable[MarkedSchema], doing: str) -> None:
    for each in found:
        if not each.ours:
            raise Refused(
                f'cannot {doing}: schema "{each.name}" belongs to role "{each.owner}"',
                hint=f'Connect as role "{each.owner}".',
                state=NOT_REACHED,
            )
