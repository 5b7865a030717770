"""The change of all ties in an exchange in place: those of the live schemas are dropped, and the wished ones made again
with the objects that came in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import psycopg
from psycopg import sql

from lastgood.in_place.ties import Publication, Schema, TiedKey, Ties, acl, evaluated, queries, retie
from lastgood.postgres.access.grants import Operator, under_owner
from lastgood.postgres.errors import message_of
from lastgood.postgres.roles.table_code import not_to_update
from lastgood.postgres.server import Connection

# References by OID in ordinary columns of tables that stay, as those of the realtime service have.
_REFERENCES = """
SELECT n.nspname, c.relname, a.attname, c.oid::regclass::text
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.atttypid = 'regclass'::regtype AND NOT a.attisdropped AND a.attgenerated = '' AND c.relkind = 'r'
  AND c.relpersistence <> 't' AND n.nspname <> ALL (%s) AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname NOT LIKE 'lastgood\\_%%'
ORDER BY 1, 2, 3
"""
_REFER = """
UPDATE {} SET {} = m.arrived FROM (
    SELECT o.oid::regclass AS was, a.oid::regclass AS arrived
    FROM unnest(%s::text[], %s::text[]) p (leaving, live)
    JOIN pg_namespace ln ON ln.nspname = p.leaving JOIN pg_class o ON o.relnamespace = ln.oid
    JOIN pg_namespace an ON an.nspname = p.live JOIN pg_class a ON a.relnamespace = an.oid AND a.relname = o.relname
) m WHERE {} = m.was
"""


class TieChanges:
    """The changes of one transaction. ``leaving``: live schema → the schema that keeps what was live. ``wished``: the
    ties to be made again. ``trusted``: code may run with the rights of this role. ``unverified``: it is not known
    whether it would when the ties are made. ``unvalidated``: the foreign keys that were made without a look at the
    rows. ``notes``: what could not be carried over."""

    def __init__(
        self,
        connection: Connection,
        operator: Operator,
        leaving: Mapping[str, str],
        wished: Ties,
        *,
        trusted: bool = False,
        unverified: bool = False,
    ) -> None:
        self._connection = connection
        self._operator = operator
        self._leaving = leaving
        self._lives = list(leaving)
        self._wished = wished
        self._trusted = trusted
        self._unverified = unverified
        self.unvalidated: list[TiedKey] = []
        self.notes: list[str] = []

    def drop(self, live: Ties, gone: Iterable[str]) -> None:
        """Drop the live ties that would follow the kept objects. ``gone``: the live schemas that do not exist after the
        move."""
        self._run(retie.drop_event_trigger(each) for each in live.event_triggers)
        self._run(retie.unpublish(live))
        self._run(retie.unpublish_schemas(live, self._wished, gone))
        self._run(retie.drop_foreign_key(each) for each in live.foreign_keys)

    def restore(self, live: Ties) -> None:
        """Make the ties again, as wished; without event triggers."""
        connection, wished = self._connection, self._wished
        there = {each.key for each in queries.foreign_keys(connection, self._lives)}
        for key in wished.foreign_keys:
            if key.key in there:
                continue
            late = key.partitioned and connection.info.server_version < 180000
            if not late:
                retie.single(connection, retie.add_foreign_key(key, valid=False))
                if key.comment is not None:
                    connection.execute(retie.comment_foreign_key(key))
            if key.validated:
                self.unvalidated.append(key)
        if self._unverified:
            evaluated.refuse(connection, wished, "switch")
        for statement in (*retie.triggers(live, wished), *retie.policies(live, wished)):
            retie.single(connection, statement)
        present = self.publications()
        for statement in retie.publish(present, wished.publications):
            retie.single(connection, statement)
        existing = {each.name for each in present}
        for publication in wished.publications:
            if publication.name not in existing:
                statement = retie.give_publication(publication)
                self._give_away(f'publication "{publication.name}"', publication.owner, statement)
        self._refer()

    def create_event_triggers(self) -> None:
        """Create the event triggers: last of all, since they would fire for our own commands."""
        for trigger in self._wished.event_triggers:
            for statement in retie.create_event_trigger(trigger):
                retie.single(self._connection, statement)
            self._give_away(f'event trigger "{trigger.name}"', trigger.owner, retie.give_event_trigger(trigger))

    def publications(self) -> list[Publication]:
        """The live publications that are tied or are to be."""
        wished = [each.name for each in self._wished.publications]
        return queries.publications(self._connection, self._lives, also=wished)

    def set_schemas(self) -> None:
        """The schemas' privileges, comments and default privileges, as wished."""
        connection, wished = self._connection, self._wished
        for present in queries.schemas(connection, self._lives):
            want = wished.schema_named(present.name)
            if want is None:
                continue
            if not (self._operator.superuser or present.owner in self._operator.inherits):
                self._keep(present, want)
                continue
            if present.owner != want.owner:
                present = self._with_owner(present, want.owner)
            self._run(retie.schema_privileges(present, want, self._operator))
            if present.comment != want.comment:
                connection.execute(
                    sql.SQL("COMMENT ON SCHEMA {} IS {}").format(
                        sql.Identifier(present.name), sql.Literal(want.comment)
                    )
                )
        self._run(
            retie.default_privileges(
                queries.default_privileges(connection, self._lives), wished.default_privileges, self._operator
            )
        )

    def _refer(self) -> None:
        """Let references by OID lead to the tables that came in, as far as this role may change them."""
        connection = self._connection
        pairs = [list(self._leaving.values()), self._lives]
        columns = connection.execute(_REFERENCES, [self._lives]).fetchall()
        closed = not_to_update(connection) if columns and not self._trusted else frozenset[str]()
        for schema, table, column, name in columns:
            if name in closed:
                self.notes.append(
                    f'column "{column}" of "{schema}.{table}" may still reference kept tables: functions of the table '
                    "would run with the rights of this role"
                )
                continue
            statement = sql.SQL(_REFER).format(
                sql.Identifier(schema, table), sql.Identifier(column), sql.Identifier(table, column)
            )
            try:
                with connection.transaction():
                    connection.execute(statement, pairs)
            except psycopg.Error as error:
                if connection.broken:
                    raise
                self.notes.append(
                    f'column "{column}" of "{schema}.{table}" still references kept tables: {message_of(error)}'
                )

    def _give_away(self, what: str, owner: str, statement: sql.Composed) -> None:
        """Give an object that this role created to its wished owner, if this role may do so."""
        if owner in ("", self._operator.name):
            return
        try:
            with self._connection.transaction():
                self._connection.execute(statement)
        except psycopg.Error as error:
            if self._connection.broken:
                raise
            self.notes.append(f'{what} belongs to role "{self._operator.name}", not "{owner}": {message_of(error)}')

    def _with_owner(self, present: Schema, owner: str) -> Schema:
        """Give a schema the wished owner, if this role may do so."""
        try:
            with self._connection.transaction():
                self._connection.execute(retie.give_schema(present.name, owner))
        except psycopg.Error as error:
            if self._connection.broken:
                raise
            self.notes.append(
                f'schema "{present.name}" belongs to role "{present.owner}", not "{owner}": {message_of(error)}'
            )
            return present
        (now,) = queries.schemas(self._connection, [present.name])
        return now

    def _keep(self, present: Schema, want: Schema) -> None:
        """Leave a schema of another role as it is, since only its owner may change it."""
        changes = {
            "owner": present.owner != want.owner,
            "privileges": acl(present.privileges) != under_owner(acl(want.privileges), want.owner, present.owner),
            "comment": present.comment != want.comment,
        }
        if differing := [name for name, differs in changes.items() if differs]:
            self.notes.append(
                f'not changed in schema "{present.name}", which belongs to role "{present.owner}": '
                f"{', '.join(differing)}"
            )

    def _run(self, statements: Iterable[sql.Composed]) -> None:
        retie.run(self._connection, statements)
