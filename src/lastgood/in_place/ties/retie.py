"""Statements that cut ties and make them again.

Definitions are the server's own text, read from a catalogue; ``single`` keeps the server from executing more than one
statement of such a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import LiteralString

from psycopg import sql

from lastgood.in_place.ties import (
    DefaultPrivileges,
    EventTrigger,
    Member,
    Policy,
    Publication,
    Schema,
    TiedKey,
    Ties,
    Trigger,
    acl,
)
from lastgood.postgres.access.grants import GrantTarget, Operator, changes, under_owner, within_reach
from lastgood.postgres.access.privileges import FUTURE_OBJECTS
from lastgood.postgres.server import Connection

BATCH = 100
_COMMANDS: dict[str, LiteralString] = {
    "ALL": "ALL",
    "SELECT": "SELECT",
    "INSERT": "INSERT",
    "UPDATE": "UPDATE",
    "DELETE": "DELETE",
}
_EVENTS: dict[str, LiteralString] = {
    "ddl_command_start": "ddl_command_start",
    "ddl_command_end": "ddl_command_end",
    "table_rewrite": "table_rewrite",
    "sql_drop": "sql_drop",
    "login": "login",
}
_STATES: dict[str, LiteralString] = {"D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}


def single(connection: Connection, statement: sql.Composed) -> None:
    """Execute exactly one statement: the extended protocol refuses a text with more."""
    connection.execute(statement, binary=True)


def run(connection: Connection, statements: Iterable[sql.Composed]) -> None:
    """Execute many statements in few messages."""
    every = list(statements)
    for start in range(0, len(every), BATCH):
        connection.execute(sql.SQL("; ").join(every[start : start + BATCH]))


def _text(definition: str) -> sql.SQL:
    return sql.SQL(definition)


def drop_foreign_key(key: TiedKey) -> sql.Composed:
    """Cut a foreign key."""
    return sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
        sql.Identifier(key.schema_name, key.table), sql.Identifier(key.name)
    )


def add_foreign_key(key: TiedKey, *, valid: bool) -> sql.Composed:
    """Make a foreign key again; without a look at the rows unless ``valid``."""
    return sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}{}").format(
        sql.Identifier(key.schema_name, key.table),
        sql.Identifier(key.name),
        _text(key.definition),
        sql.SQL("" if valid else " NOT VALID"),
    )


def comment_foreign_key(key: TiedKey) -> sql.Composed:
    """Give a foreign key its comment again."""
    return sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(
        sql.Identifier(key.name), sql.Identifier(key.schema_name, key.table), sql.Literal(key.comment)
    )


def validate_foreign_key(key: TiedKey) -> sql.Composed:
    """Compare the rows of a foreign key that is NOT VALID with the table that they refer to."""
    return sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(
        sql.Identifier(key.schema_name, key.table), sql.Identifier(key.name)
    )


def triggers(live: Ties, wished: Ties) -> Iterator[sql.Composed]:
    """The triggers of the tables that stay, as wished. CREATE OR REPLACE needs no ownership of the table."""
    had = {each.key: each for each in live.triggers}
    want = {each.key: each for each in wished.triggers}
    for key in sorted({each.key for each in (*live.triggers, *wished.triggers) if each.tied}):
        old, new = had.get(key), want.get(key)
        replaceable = new is not None and not new.constraint and not (old is not None and old.constraint)
        if old is not None and not replaceable:
            yield drop_trigger(old)
        if new is not None:
            text = new.definition.removeprefix("CREATE ")
            yield sql.SQL("CREATE {}{}").format(sql.SQL("OR REPLACE " if replaceable else ""), _text(text))


def drop_trigger(trigger: Trigger) -> sql.Composed:
    """Drop a trigger, which only the table's owner may do on PostgreSQL itself."""
    return sql.SQL("DROP TRIGGER {} ON {}").format(
        sql.Identifier(trigger.name), sql.Identifier(trigger.schema_name, trigger.table)
    )


def policies(live: Ties, wished: Ties) -> Iterator[sql.Composed]:
    """The policies of the tables that stay, as wished."""
    had = {each.key: each for each in live.policies}
    want = {each.key: each for each in wished.policies}
    for key in sorted({each.key for each in (*live.policies, *wished.policies) if each.tied}):
        old, new = had.get(key), want.get(key)
        if old is not None and new is not None and _alterable(old, new):
            yield alter_policy(new)
            continue
        if old is not None:
            yield sql.SQL("DROP POLICY {} ON {}").format(sql.Identifier(old.name), _table(old))
        if new is not None:
            yield sql.SQL("CREATE POLICY {} ON {} AS {} FOR {} {}").format(
                sql.Identifier(new.name),
                _table(new),
                sql.SQL("PERMISSIVE" if new.permissive else "RESTRICTIVE"),
                sql.SQL(_COMMANDS[new.command]),
                _rule(new),
            )


def alter_policy(policy: Policy) -> sql.Composed:
    """Give a policy these roles and expressions."""
    return sql.SQL("ALTER POLICY {} ON {} {}").format(sql.Identifier(policy.name), _table(policy), _rule(policy))


def _alterable(old: Policy, new: Policy) -> bool:
    """ALTER POLICY changes neither the command nor the kind, and removes no expression."""
    lost = (old.using is not None and new.using is None) or (old.check is not None and new.check is None)
    return (old.command, old.permissive) == (new.command, new.permissive) and not lost


def _table(policy: Policy) -> sql.Identifier:
    return sql.Identifier(policy.schema_name, policy.table)


def _rule(policy: Policy) -> sql.Composed:
    roles = sql.SQL(", ").join(sql.Identifier(role) if role else sql.SQL("PUBLIC") for role in policy.roles)
    parts: list[sql.Composable] = [sql.SQL("TO {}").format(roles)]
    if policy.using is not None:
        parts.append(sql.SQL("USING ({})").format(_text(policy.using)))
    if policy.check is not None:
        parts.append(sql.SQL("WITH CHECK ({})").format(_text(policy.check)))
    return sql.SQL(" ").join(parts)


def unpublish(live: Ties) -> Iterator[sql.Composed]:
    """Take the tables that leave out of their publications."""
    for publication in live.publications:
        if publication.members:
            yield sql.SQL("ALTER PUBLICATION {} DROP TABLE {}").format(
                sql.Identifier(publication.name),
                sql.SQL(", ").join(sql.Identifier(each.schema_name, each.table) for each in publication.members),
            )


def unpublish_schemas(live: Ties, wished: Ties, leaving: Iterable[str]) -> Iterator[sql.Composed]:
    """Take whole schemas out of publications: those in ``leaving``, and those that the wished ties do not have."""
    gone = set(leaving)
    want = {each.name: set(each.schemas) for each in wished.publications}
    for publication in live.publications:
        for schema in publication.schemas:
            if schema in gone or schema not in want.get(publication.name, set()):
                yield sql.SQL("ALTER PUBLICATION {} DROP TABLES IN SCHEMA {}").format(
                    sql.Identifier(publication.name), sql.Identifier(schema)
                )


def publish(live: Iterable[Publication], wished: Iterable[Publication]) -> Iterator[sql.Composed]:
    """Publish what is wished, with these options. ``live``: the wished publications that exist, with what they publish
    of the schemas now."""
    present = {each.name: each for each in live}
    for publication in wished:
        name, options = sql.Identifier(publication.name), _options(publication)
        now = present.get(publication.name)
        if now is None:
            yield sql.SQL("CREATE PUBLICATION {} WITH ({})").format(name, options)
        elif options != _options(now):
            yield sql.SQL("ALTER PUBLICATION {} SET ({})").format(name, options)
        if publication.members:
            yield sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(
                name, sql.SQL(", ").join(_member(each) for each in publication.members)
            )
        for schema in publication.schemas:
            if now is None or schema not in now.schemas:
                yield sql.SQL("ALTER PUBLICATION {} ADD TABLES IN SCHEMA {}").format(name, sql.Identifier(schema))


def _options(publication: Publication) -> sql.Composed:
    options = sql.SQL("publish = {}, publish_via_partition_root = {}").format(
        sql.Literal(publication.publish), sql.Literal(publication.via_root)
    )
    if publication.generated is not None:
        options += sql.SQL(", publish_generated_columns = {}").format(sql.Literal(publication.generated))
    return options


def _member(member: Member) -> sql.Composed:
    columns: sql.Composable = sql.SQL("")
    if member.columns is not None:
        columns = sql.SQL(" ({})").format(sql.SQL(", ").join(sql.Identifier(each) for each in member.columns))
    condition: sql.Composable = sql.SQL("")
    if member.condition is not None:
        condition = sql.SQL(" WHERE ({})").format(_text(member.condition))
    return sql.SQL("ONLY {}{}{}").format(sql.Identifier(member.schema_name, member.table), columns, condition)


def drop_event_trigger(trigger: EventTrigger) -> sql.Composed:
    """Drop an event trigger; there is no OR REPLACE for these."""
    return sql.SQL("DROP EVENT TRIGGER {}").format(sql.Identifier(trigger.name))


def create_event_trigger(trigger: EventTrigger) -> Iterator[sql.Composed]:
    """Create an event trigger in its state, with its comment."""
    tags = sql.Composed([])
    if trigger.tags:
        tags = sql.SQL("WHEN TAG IN ({}) ").format(sql.SQL(", ").join(sql.Literal(tag) for tag in trigger.tags))
    name = sql.Identifier(trigger.name)
    yield sql.SQL("CREATE EVENT TRIGGER {} ON {} {}EXECUTE FUNCTION {}()").format(
        name, sql.SQL(_EVENTS[trigger.event]), tags, sql.Identifier(trigger.function_schema, trigger.function)
    )
    if trigger.enabled in _STATES:
        yield sql.SQL("ALTER EVENT TRIGGER {} {}").format(name, sql.SQL(_STATES[trigger.enabled]))
    if trigger.comment is not None:
        yield sql.SQL("COMMENT ON EVENT TRIGGER {} IS {}").format(name, sql.Literal(trigger.comment))


def give_event_trigger(trigger: EventTrigger) -> sql.Composed:
    """Give an event trigger its owner."""
    return sql.SQL("ALTER EVENT TRIGGER {} OWNER TO {}").format(
        sql.Identifier(trigger.name), sql.Identifier(trigger.owner)
    )


def give_publication(publication: Publication) -> sql.Composed:
    """Give a publication its owner."""
    return sql.SQL("ALTER PUBLICATION {} OWNER TO {}").format(
        sql.Identifier(publication.name), sql.Identifier(publication.owner)
    )


def rename_schema(schema: str, name: str) -> sql.Composed:
    """Rename a schema."""
    return sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(schema), sql.Identifier(name))


def give_schema(schema: str, owner: str) -> sql.Composed:
    """Give a schema its owner."""
    return sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(sql.Identifier(schema), sql.Identifier(owner))


def schema_privileges(present: Schema, wished: Schema, operator: Operator) -> list[sql.Composed]:
    """Give a schema the wished privileges, under its present owner."""
    on = GrantTarget(sql.SQL("SCHEMA {}").format(sql.Identifier(present.name)))
    wanted = within_reach(under_owner(acl(wished.privileges), wished.owner, present.owner), present.owner, operator)
    return changes(on, present.owner, wanted, acl(present.privileges), operator)


def close_schema(present: Schema, operator: Operator) -> list[sql.Composed]:
    """Leave a schema to its owner alone."""
    own = frozenset(each for each in acl(present.privileges) if each.grantee == present.owner)
    on = GrantTarget(sql.SQL("SCHEMA {}").format(sql.Identifier(present.name)))
    return changes(on, present.owner, own, acl(present.privileges), operator)


def default_privileges(
    present: Iterable[DefaultPrivileges], wished: Iterable[DefaultPrivileges], operator: Operator
) -> list[sql.Composed]:
    """Give the default privileges of the roles within reach their wished state. Those of the platform's roles are out
    of reach; they stay, with their schema."""
    had = {each.key: each for each in present}
    want = {each.key: each for each in wished}
    statements: list[sql.Composed] = []
    for key in sorted({*had, *want}):
        schema, role, kind = key
        if not (operator.superuser or role in operator.inherits) or kind not in FUTURE_OBJECTS:
            continue
        before = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {}").format(sql.Identifier(role))
        if schema:
            before += sql.SQL(" IN SCHEMA {}").format(sql.Identifier(schema))
        either = want.get(key) or had[key]
        wanted = want[key].privileges if key in want else either.builtin
        current = had[key].privileges if key in had else either.builtin
        statements += changes(
            GrantTarget(sql.SQL(FUTURE_OBJECTS[kind]), before), role, acl(wanted), acl(current), operator
        )
    return statements
