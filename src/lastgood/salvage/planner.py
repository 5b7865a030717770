"""The role that plans a salvage: to read the live database runs the code of its definitions, with the rights of the
session."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from lastgood.events import Caution, Emit
from lastgood.postgres.roles.reader_role import reader_role
from lastgood.postgres.roles.table_code import not_to_query, with_code_in_types
from lastgood.postgres.server import Target
from lastgood.salvage.tables import Name, Table


@contextmanager
def planner(live: Target, known: Mapping[Name, Table], wanted: Collection[Name] | None, emit: Emit) -> Iterator[Target]:
    """The live database as it is read for a plan: as a role without rights if these tables, or those that they refer
    to, run code of their definitions when they are read, and the operator has rights that it could use. ``wanted``:
    None for all tables. Raises psycopg.Error."""
    by_oid = {each.oid: each for each in known.values()}
    read = [each for name, each in known.items() if wanted is None or name in wanted]
    oids = {each.oid for each in read}
    oids |= {key.parent for each in read for key in each.parents} | {
        key.child for each in read for key in each.children
    }
    names = {(each.schema, each.name) for oid in oids if (each := by_oid.get(oid)) is not None}
    with live.connect(application_name="lastgood salvage") as session:
        if not (names & (not_to_query(session) | with_code_in_types(session))):
            yield live
            return
        with reader_role(live, session, temporary=True) as role:
            if role.caution:
                emit(Caution(role.caution))
            yield role.target
