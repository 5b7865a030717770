"""Tables, views, sequences, and objects of one table: constraints, indexes, triggers, rules, policies."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lastgood.dump import names
from lastgood.dump.names import Relation
from lastgood.dump.rulings.foreign import alter, recomputes, table_of_query
from lastgood.dump.rulings.ruling import DROPS, MISSING_PRIVILEGE, Handler, Ruling
from lastgood.dump.rulings.tree import within
from lastgood.dump.statements import (
    ColumnDefinition,
    Command,
    Created,
    ForeignKeyDefinition,
    Kind,
    SequenceDefinition,
    SequencePosition,
    TableDefinition,
    Verdict,
)


def _table(r: Ruling, node: Any) -> Command:
    foreign = node.tag == "CreateForeignTableStmt"
    if foreign:
        node = node.base
    relation = r.created(node.relation)
    if node.relation.relpersistence == "t":
        return r.foreign(Kind.CHANGE, "has a temporary table, which pg_dump never writes", relation)
    created = [Created(Kind.FOREIGN_TABLE if foreign else Kind.TABLE, str(relation))]
    columns = []
    others = [relation]
    for element in node.tableElts or ():
        kind, column = element.tag, ""
        if kind == "ColumnDef":
            column = element.colname
            constraints = element.constraints or ()
            generated = any(c.contype == "CONSTR_GENERATED" for c in constraints)
            if element.typeName is not None:
                if element.typeName.names[-1].sval in _SERIAL:
                    created.append(Created(Kind.SEQUENCE, str(_sequence_of(relation, element.colname))))
                columns.append(ColumnDefinition(element.colname, names.type_identity(element.typeName), generated))
        elif kind == "Constraint":
            constraints = (element,)
        else:
            return r.foreign(Kind.CHANGE, 'has a "LIKE" in a "CREATE TABLE", which pg_dump never writes', relation)
        for constraint in constraints:
            created.extend(_constraint(constraint, relation, column, created))
            if constraint.pktable is not None:
                others.append(r.relation(constraint.pktable))
    inherits = tuple(r.relation(parent) for parent in node.inhRelations or ())
    definition = TableDefinition(
        relation,
        tuple(columns),
        inherits,
        None if node.ofTypename is None else r.object_named(node.ofTypename.names),
        partitioned=node.partspec is not None,
        carries_rows=node.partspec is None and not foreign,
        foreign=foreign,
        access_method=node.accessMethod,
        sequences=tuple(_own_sequences(r, relation, node.tableElts or ())),
    )
    kind_of_table = Kind.FOREIGN_TABLE if foreign else Kind.TABLE
    return r.run(kind_of_table, *others, *inherits, creates=created, detail=definition)


_SERIAL = frozenset({"bigserial", "serial", "serial2", "serial4", "serial8", "smallserial"})
_LONGEST = 63


def _own_sequences(r: Ruling, table: Relation, elements: Iterable[Any]) -> Iterable[SequenceDefinition]:
    """The sequences that the server creates for serial and identity columns; pg_dump writes these separately."""
    for element in elements:
        if element.tag != "ColumnDef":
            continue
        identity = next((each for each in element.constraints or () if each.contype == "CONSTR_IDENTITY"), None)
        if identity is not None:
            options = {option.defname: option.arg for option in identity.options or ()}
            sequence_name = options.get("sequence_name")
            yield _declared(
                _sequence_of(table, element.colname) if sequence_name is None else r.object_named(sequence_name),
                options,
            )
        elif element.typeName is not None and element.typeName.names[-1].sval in _SERIAL:
            yield _declared(_sequence_of(table, element.colname), {})


def _sequence_of(table: Relation, column: str) -> Relation:
    return Relation(table.schema, _chosen_name(table, column, "seq"))


def _chosen_name(table: Relation, columns: str, label: str) -> str:
    """The name that the server chooses for an unnamed object, unless another object has it (``makeObjectName``)."""
    texts = [text for text in (table.name, columns) if text]
    parts = [len(text.encode()) for text in texts]
    while sum(parts) > _LONGEST - len(label) - len(texts):
        parts[parts.index(max(parts)) if parts[0] != parts[-1] else -1] -= 1
    cut = [text.encode()[:most].decode(errors="ignore") for text, most in zip(texts, parts, strict=True)]
    return "_".join([*cut, label])


_CONSTRAINTS = {
    "CONSTR_CHECK": Kind.CHECK,
    "CONSTR_PRIMARY": Kind.PRIMARY_KEY,
    "CONSTR_UNIQUE": Kind.UNIQUE,
    "CONSTR_EXCLUSION": Kind.EXCLUSION,
    "CONSTR_FOREIGN": Kind.FOREIGN_KEY,
}


# The suffixes of names that the server chooses.
_LABELS = {
    "CONSTR_CHECK": "check",
    "CONSTR_PRIMARY": "pkey",
    "CONSTR_UNIQUE": "key",
    "CONSTR_EXCLUSION": "excl",
    "CONSTR_FOREIGN": "fkey",
}


def _constraint(node: Any, relation: Relation, column: str = "", before: Sequence[Created] = ()) -> Iterable[Created]:
    """The constraint of ``column`` or of the table. pg_dump names all constraints; other programs may leave the name to
    the server, which adds a number where one of those ``before`` has it (``ChooseConstraintName``)."""
    kind = _CONSTRAINTS.get(node.contype)
    if kind is None:
        return
    if node.conname:
        yield Created(kind, f"{names.quoted(node.conname)} on {relation}")
        return
    label = _LABELS[node.contype]
    columns = "" if label == "pkey" else "_".join(_columns_in_name(node)) or (column if label != "check" else "")
    for number in itertools.chain([""], itertools.count(1)):
        name = _chosen_name(relation, columns, f"{label}{number}")
        chosen = Created(kind, f"{names.quoted(name)} on {relation}")
        if chosen not in before:
            yield chosen
            return


def _columns_in_name(node: Any) -> Sequence[str]:
    """The columns of which the server makes the name of a constraint: of a check the one that it reads, if it is one
    only; of an index all, with ``expr`` for expressions (``ChooseIndexColumnNames``)."""
    if node.contype == "CONSTR_CHECK":
        read = {
            field["String"]["sval"]
            for tag, fields in within(node.raw_expr)
            if tag == "ColumnRef"
            for field in fields["fields"][-1:]
            if "String" in field
        }
        return [*read] if len(read) == 1 else []
    names_of_columns = [each[0].name or "expr" for each in node.exclusions or ()]
    names_of_columns += [each.sval for each in (*(node.fk_attrs or node.keys or ()), *(node.including or ()))]
    columns: list[str] = []
    for name in names_of_columns:
        numbers = itertools.chain([""], itertools.count(1))
        columns.append(next(each for number in numbers if (each := f"{name}{number}") not in columns))
    return columns


_DROPS = frozenset(
    {
        "AT_DetachPartition",
        "AT_DisableRowSecurity",
        "AT_DropColumn",
        "AT_DropConstraint",
        "AT_DropExpression",
        "AT_DropIdentity",
        "AT_DropInherit",
    }
)
# They read no row, and evaluate no expression of the table.
STORED = frozenset(
    {
        "AT_ClusterOn",
        "AT_DisableRule",
        "AT_DisableTrig",
        "AT_DropNotNull",
        "AT_EnableAlwaysRule",
        "AT_EnableAlwaysTrig",
        "AT_EnableReplicaRule",
        "AT_EnableReplicaTrig",
        "AT_EnableRule",
        "AT_EnableTrig",
        "AT_ReplicaIdentity",
        "AT_SetCompression",
        "AT_SetOptions",
        "AT_SetRelOptions",
        "AT_SetStatistics",
        "AT_SetStorage",
    }
)
_PROPERTIES = STORED | {
    "AT_AddOf",
    "AT_AlterColumnGenericOptions",
    "AT_GenericOptions",
    "AT_SetAccessMethod",
    "AT_SetNotNull",
    "AT_ValidateConstraint",
}


# Changes that pg_dump never writes: other programs change a table that they created before.
_OTHERS = frozenset(
    {
        "AT_AlterConstraint",
        "AT_AddIndex",
        "AT_DropCluster",
        "AT_DropExpression",
        "AT_DropOids",
        "AT_ResetOptions",
        "AT_ResetRelOptions",
        "AT_SetIdentity",
        "AT_SetLogged",
        "AT_SetUnLogged",
    }
)


def _alter_table(r: Ruling, node: Any) -> Command:
    relation = r.relation(node.relation)
    commands = [_alter(r, relation, command) for command in node.cmds]
    first = commands[0]
    refused = next((each for each in commands if each.verdict is Verdict.REFUSE), None)
    if len(commands) == 1 or refused is not None:
        return refused or first
    # Its kind decides who runs a command, and when: pg_dump combines no two kinds.
    if any((c.verdict, c.kind) != (first.verdict, first.kind) for c in commands) or first.verdict is Verdict.FOREIGN:
        return recomputes(r, relation, node)
    return r.run(
        first.kind,
        *dict.fromkeys(other for c in commands for other in c.relations),
        creates=[created for c in commands for created in c.creates],
        detail=first.detail,
    )


def _alter(r: Ruling, relation: Relation, command: Any) -> Command:
    change = command.subtype
    definition = command.def_
    if change in _DROPS or (change == "AT_ColumnDefault" and definition is None):
        return r.skip(Kind.DROP, DROPS)
    if change == "AT_ColumnDefault":
        return r.run(Kind.DEFAULT, relation)
    if change == "AT_AddConstraint":
        others = (r.relation(definition.pktable),) if definition.pktable is not None else ()
        kind = _CONSTRAINTS.get(definition.contype, Kind.NOT_NULL)
        key = (
            ForeignKeyDefinition(relation, tuple(c.sval for c in definition.fk_attrs or ()), others[0])
            if others
            else None
        )
        return r.run(kind, relation, *others, creates=_constraint(definition, relation), detail=key)
    if change == "AT_AddIdentity":
        # The sequence belongs to the column and is no object of its own.
        options = {option.defname: option.arg for option in definition.options or ()}
        sequence_name = options.get("sequence_name")
        return r.run(
            Kind.IDENTITY,
            relation,
            detail=_declared(r.object_named(sequence_name), options) if sequence_name is not None else None,
        )
    if change == "AT_ChangeOwner":
        return r.run(Kind.OWNER, relation, roles=(command.newowner,), optional=(MISSING_PRIVILEGE,))
    if change == "AT_AttachPartition":
        return r.run(Kind.PARTITION, relation, r.relation(definition.name))
    if change == "AT_AddInherit":
        return r.run(Kind.INHERITANCE, relation, r.relation(definition))
    if change in ("AT_EnableRowSecurity", "AT_ForceRowSecurity", "AT_NoForceRowSecurity"):
        return r.run(Kind.ROW_SECURITY, relation)
    if change in ("AT_DisableTrigAll", "AT_EnableTrigAll"):  # --disable-triggers
        return r.run(Kind.TABLE_PROPERTY, relation, optional=(MISSING_PRIVILEGE,))
    if change in _PROPERTIES:
        return r.run(Kind.TABLE_PROPERTY, relation)
    if change in ("AT_AddColumn", "AT_AlterColumnType"):
        return recomputes(r, relation, command)
    if change in _OTHERS:
        return alter(r, relation)
    return r.unknown()


def _view(r: Ruling, node: Any) -> Command:
    view = r.created(node.view)
    targets = node.query.targetList or ()
    plain = not node.query.fromClause and not node.query.whereClause
    dummy = plain and bool(targets) and all(_is_null_cast(target.val) for target in targets)
    return r.run(Kind.VIEW, view, creates=[Created(Kind.VIEW, str(view))], dummy=dummy, reads=r.read_by(node.query))


def _is_null_cast(node: Any) -> bool:
    while node.tag in ("TypeCast", "CollateClause"):
        node = node.arg
    return node.tag == "A_Const" and bool(node.isnull)


def _create_as(r: Ruling, node: Any) -> Command:
    if node.objtype != "OBJECT_MATVIEW":
        return table_of_query(r, node)
    view = r.created(node.into.rel)
    return r.run(Kind.MATERIALIZED_VIEW, view, creates=[Created(Kind.MATERIALIZED_VIEW, str(view))])


def _refresh(r: Ruling, node: Any) -> Command:
    return r.run(Kind.REFRESH, r.relation(node.relation))


def _index(r: Ruling, node: Any) -> Command:
    table = r.relation(node.relation)
    if node.concurrent or not node.idxname:
        return r.foreign(Kind.CHANGE, "", table)
    return r.run(Kind.INDEX, table, creates=[Created(Kind.INDEX, str(Relation(table.schema, node.idxname)))])


def _sequence(r: Ruling, node: Any) -> Command:
    sequence = r.created(node.sequence)
    detail = _declared(sequence, {option.defname: option.arg for option in node.options or ()})
    return r.run(Kind.SEQUENCE, sequence, creates=[Created(Kind.SEQUENCE, str(sequence))], detail=detail)


def _alter_sequence(r: Ruling, node: Any) -> Command:
    sequence = r.relation(node.sequence)
    restart = next((_number(option.arg) for option in node.options or () if option.defname == "restart"), None)
    return r.run(
        Kind.TABLE_PROPERTY, sequence, detail=None if restart is None else SequencePosition(sequence, restart, False)
    )


def _declared(sequence: Relation, options: Mapping[str, Any]) -> SequenceDefinition:
    """A sequence with its first value, or by default one end of its range."""
    start = _number(options.get("start"))
    if start is None and (_number(options.get("increment")) or 1) > 0:
        start = _number(options.get("minvalue"))
    elif start is None:
        start = _number(options.get("maxvalue"))
        start = -1 if start is None else start
    return SequenceDefinition(sequence, 1 if start is None else start)


def _number(node: Any) -> int | None:
    """The value of an integer of any size; None without one."""
    if node is None:
        return None
    return int(node.fval) if node.tag == "Float" else int(node.ival or 0)


def _on_table(kind: Kind, name: str, table: str) -> Handler:
    """A handler for objects of one table: ``name`` and ``table`` are the syntax tree's attributes."""

    def handle(r: Ruling, node: Any) -> Command:
        relation = r.relation(getattr(node, table))
        created = Created(kind, f"{names.quoted(getattr(node, name))} on {relation}")
        others = [r.relation(node.constrrel)] if node.constrrel is not None else []
        return r.run(kind, relation, *others, creates=[created], roles=node.roles or ())

    return handle


def _rule(r: Ruling, node: Any) -> Command:
    table = r.relation(node.relation)
    created = Created(Kind.RULE, f"{names.quoted(node.rulename)} on {table}")
    reads = r.read_by(node.actions) if node.event == "CMD_SELECT" else ()
    return r.run(Kind.RULE, table, creates=[created], reads=reads, writes=r.written_by(node.actions))


def _statistics(r: Ruling, node: Any) -> Command:
    tables = [r.relation(table) for table in node.relations]
    return r.run(Kind.STATISTICS, *tables, creates=[Created(Kind.STATISTICS, str(r.object_named(node.defnames)))])


HANDLERS: dict[str, Handler] = {
    "AlterSeqStmt": _alter_sequence,
    "AlterTableStmt": _alter_table,
    "CreateForeignTableStmt": _table,
    "CreatePolicyStmt": _on_table(Kind.POLICY, "policy_name", "table"),
    "CreateSeqStmt": _sequence,
    "CreateStatsStmt": _statistics,
    "CreateStmt": _table,
    "CreateTableAsStmt": _create_as,
    "CreateTrigStmt": _on_table(Kind.TRIGGER, "trigname", "relation"),
    "IndexStmt": _index,
    "RefreshMatViewStmt": _refresh,
    "RuleStmt": _rule,
    "ViewStmt": _view,
}
