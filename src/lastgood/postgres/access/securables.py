"""All objects of a database with an owner or privileges, under names that are valid in another database too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, LiteralString

from psycopg import sql

from lastgood.postgres.access.grants import Acl, acl_of
from lastgood.postgres.server import Connection

Origin = Literal["user", "extension", "system"]


@dataclass(frozen=True, slots=True, order=True)
class ObjectName:
    """``names``: schema, then name, then column (of a ``column``) or access method (of an operator class or family);
    the name alone where there are no schemas. ``arguments``: (schema, type) of each input argument, flat."""

    kind: str
    names: tuple[str, ...]
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        types = [f"{a}.{b}".removeprefix("pg_catalog.") for a, b in self.pairs()]
        signature = f"({', '.join(types)})" if self.kind in ("routine", "operator") else ""
        return f'{self.kind} "{".".join(self.names)}{signature}"'

    def pairs(self) -> Iterator[tuple[str, str]]:
        """The arguments' types, one by one."""
        return zip(self.arguments[::2], self.arguments[1::2], strict=True)

    def reference(self) -> sql.Composable:
        """The object in SQL, as ALTER and GRANT name it."""
        if self.kind == "large object":
            return sql.Literal(int(self.names[0]))
        if self.kind == "routine":
            types = [sql.Identifier(*pair) for pair in self.pairs()]
            return sql.SQL("{} ({})").format(sql.Identifier(*self.names), sql.SQL(", ").join(types))
        if self.kind == "operator":
            sides = [sql.Identifier(*pair) if pair[0] else sql.SQL("NONE") for pair in self.pairs()]
            symbol = sql.SQL(_symbol(self.names[1]))
            return sql.SQL("{}.{} ({})").format(sql.Identifier(self.names[0]), symbol, sql.SQL(", ").join(sides))
        if self.kind in ("operator class", "operator family"):
            return sql.SQL("{} USING {}").format(sql.Identifier(*self.names[:2]), sql.Identifier(self.names[2]))
        return sql.Identifier(*self.names[:2])


def _symbol(operator: str) -> LiteralString:
    # An operator's name cannot be quoted; the server allows only these characters.
    if not operator or set(operator) - set("+-*/<>=~!@#%^&|`?"):
        raise ValueError(f"{operator!r} is not an operator")
    return operator


@dataclass(frozen=True, slots=True)
class Securable:
    """An object with its owner and privileges.

    ``acl`` is None for kinds without privileges. ``initial``: its privileges when PostgreSQL or its extension created
    it (None for the user's objects). ``follows``: the table that determines this sequence's owner. ``definer``: a
    SECURITY DEFINER routine.
    """

    name: ObjectName
    owner: str
    acl: Acl | None
    initial: Acl | None
    origin: Origin
    follows: ObjectName | None
    definer: bool


@dataclass(frozen=True, slots=True)
class DefaultAcl:
    """ALTER DEFAULT PRIVILEGES FOR ``role`` [IN SCHEMA ``schema``]; ``kind`` is pg_default_acl's letter.

    For all schemas (``schema`` empty) ``acl`` replaces ``builtin``; in one schema it is added.
    """

    role: str
    schema: str
    kind: str
    acl: Acl
    builtin: Acl

    @property
    def key(self) -> tuple[str, str, str]:
        return self.role, self.schema, self.kind


@dataclass(frozen=True, slots=True)
class _Kind:
    """The query that reads securables from a catalogue.

    ``rows``: a query for ``oid, sub, kind, names, arguments, owner, acl, letter, own, follows, definer``. ``letter``
    is acldefault's, NULL without privileges. ``own``: a user's object in spite of its low OID.
    """

    catalogue: LiteralString
    rows: sql.Composable


_TYPES: LiteralString = """ARRAY(
    SELECT v.x FROM unnest({}) WITH ORDINALITY u(type, n) LEFT JOIN pg_type t ON t.oid = u.type
    LEFT JOIN pg_namespace tn ON tn.oid = t.typnamespace
    CROSS JOIN LATERAL (VALUES (1, coalesce(tn.nspname::text, '')), (2, coalesce(t.typname::text, ''))) v(k, x)
    ORDER BY u.n, v.k)"""


def _plain(
    catalogue: LiteralString,
    kind: LiteralString,
    owner: LiteralString,
    name: LiteralString,
    schema: LiteralString | None = None,
    *,
    acl: LiteralString = "NULL::aclitem[]",
    letter: LiteralString = "NULL",
    own: LiteralString = "false",
    extra: LiteralString = "",
    arguments: LiteralString = "'{}'::text[]",
    definer: LiteralString = "false",
    where: LiteralString = "true",
) -> _Kind:
    """A catalogue whose rows are objects of one kind, with a name, or a schema and a name."""
    names: sql.Composable
    join: sql.Composable
    if schema is None:
        names, join = sql.SQL("o.{}::text").format(sql.SQL(name)), sql.SQL("")
    else:
        names = sql.SQL("n.nspname::text, o.{}::text{}").format(sql.SQL(name), sql.SQL(extra))
        join = sql.SQL("JOIN pg_namespace n ON n.oid = o.{} AND n.nspname !~ '^pg_temp_'").format(sql.SQL(schema))
    rows = sql.SQL("""
        SELECT o.oid, 0 AS sub, {kind} AS kind, ARRAY[{names}] AS names, {arguments} AS arguments, o.{owner} AS owner,
               {acl} AS acl, {letter} AS letter, {own} AS own, NULL::text[] AS follows, {definer} AS definer
        FROM {catalogue} o {join} WHERE {where}""").format(
        kind=sql.Literal(kind),
        names=names,
        arguments=sql.SQL(arguments),
        owner=sql.SQL(owner),
        acl=sql.SQL(acl),
        letter=sql.SQL(letter),
        own=sql.SQL(own),
        definer=sql.SQL(definer),
        catalogue=sql.SQL(catalogue),
        join=join,
        where=sql.SQL(where),
    )
    return _Kind(catalogue, rows)


_KINDS: tuple[_Kind, ...] = (
    _plain(
        "pg_namespace",
        "schema",
        "nspowner",
        "nspname",
        acl="o.nspacl",
        letter="'n'",
        own="o.nspname = 'public'",
        where="o.nspname !~ '^pg_(toast|temp)'",
    ),
    _plain(
        "pg_type",
        "type",
        "typowner",
        "typname",
        "typnamespace",
        acl="o.typacl",
        letter="'T'",
        # Not the types that belong to another object: arrays, row types, and, since 17, multiranges. Before 17, a
        # multirange has its own owner and privileges.
        where="""o.typisdefined AND (o.typtype <> 'm' OR current_setting('server_version_num')::int < 170000)
                 AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = o.oid)
                 AND (o.typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = o.typrelid AND c.relkind = 'c'))
                 """,
    ),
    _Kind(
        "pg_class",
        sql.SQL("""
            SELECT c.oid, 0 AS sub,
                   CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                                  WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind,
                   ARRAY[n.nspname::text, c.relname::text] AS names,
                   '{}'::text[] AS arguments, c.relowner AS owner, c.relacl AS acl,
                   CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END AS letter, false AS own,
                   (SELECT ARRAY[tn.nspname::text, t.relname::text]
                    FROM pg_depend d JOIN pg_class t ON t.oid = d.refobjid
                    JOIN pg_namespace tn ON tn.oid = t.relnamespace
                    WHERE c.relkind = 'S' AND d.classid = 'pg_class'::regclass AND d.objid = c.oid
                      AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
                   ) AS follows,
                   false AS definer
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'"""),
    ),
    _Kind(
        "pg_class",
        sql.SQL("""
           SELECT c.oid, a.attnum AS sub, 'column' AS kind,
                  ARRAY[n.nspname::text, c.relname::text, a.attname::text] AS names, '{}'::text[] AS arguments,
                  c.relowner AS owner, a.attacl AS acl, 'c' AS letter, false AS own, NULL::text[] AS follows,
                  false AS definer
           FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND c.relpersistence <> 't'"""),
    ),
    _plain(
        "pg_proc",
        "routine",
        "proowner",
        "proname",
        "pronamespace",
        acl="o.proacl",
        letter="'f'",
        arguments=_TYPES.replace("{}", "o.proargtypes"),
        definer="o.prosecdef",
    ),
    _plain("pg_language", "language", "lanowner", "lanname", acl="o.lanacl", letter="'l'"),
    _plain("pg_foreign_data_wrapper", "foreign data wrapper", "fdwowner", "fdwname", acl="o.fdwacl", letter="'F'"),
    _plain("pg_foreign_server", "foreign server", "srvowner", "srvname", acl="o.srvacl", letter="'S'"),
    _plain("pg_largeobject_metadata", "large object", "lomowner", "oid", acl="o.lomacl", letter="'L'", own="true"),
    _plain("pg_event_trigger", "event trigger", "evtowner", "evtname"),
    _plain("pg_publication", "publication", "pubowner", "pubname"),
    _plain("pg_statistic_ext", "statistics", "stxowner", "stxname", "stxnamespace"),
    _plain("pg_collation", "collation", "collowner", "collname", "collnamespace"),
    _plain("pg_conversion", "conversion", "conowner", "conname", "connamespace"),
    _plain(
        "pg_operator",
        "operator",
        "oprowner",
        "oprname",
        "oprnamespace",
        arguments=_TYPES.replace("{}", "ARRAY[o.oprleft, o.oprright]"),
    ),
    _plain(
        "pg_opclass",
        "operator class",
        "opcowner",
        "opcname",
        "opcnamespace",
        extra=", (SELECT amname::text FROM pg_am WHERE pg_am.oid = o.opcmethod)",
    ),
    _plain(
        "pg_opfamily",
        "operator family",
        "opfowner",
        "opfname",
        "opfnamespace",
        extra=", (SELECT amname::text FROM pg_am WHERE pg_am.oid = o.opfmethod)",
    ),
    _plain("pg_ts_dict", "text search dictionary", "dictowner", "dictname", "dictnamespace"),
    _plain("pg_ts_config", "text search configuration", "cfgowner", "cfgname", "cfgnamespace"),
)

_EXPLODED = sql.SQL("""(
    SELECT jsonb_agg(jsonb_build_array(
        pg_get_userbyid(a.grantor), CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee) END,
        a.privilege_type, a.is_grantable))
    FROM aclexplode({}) a)""")


def _query(kind: _Kind) -> sql.Composed:
    """All objects of users and extensions, and system objects whose privileges were changed."""
    return sql.SQL("""
        SELECT o.kind, o.names, o.arguments, pg_get_userbyid(o.owner), o.letter IS NOT NULL,
               CASE WHEN o.letter IS NOT NULL THEN {present} END,
               CASE WHEN o.letter IS NOT NULL AND o.origin <> 'user' THEN {initial} END,
               o.origin, o.follows, o.definer
        FROM (SELECT s.*, CASE WHEN EXISTS (
                                  SELECT FROM pg_depend d
                                  WHERE d.classid = {catalogue}::regclass AND d.objid = s.oid AND d.objsubid = 0
                                    AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e') THEN 'extension'
                               WHEN s.own OR s.oid >= 16384 THEN 'user' ELSE 'system' END AS origin
              FROM ({rows}) s) o
        LEFT JOIN pg_init_privs i ON i.classoid = {catalogue}::regclass AND i.objoid = o.oid AND i.objsubid = o.sub
        WHERE o.origin <> 'system' OR (o.letter IS NOT NULL AND o.acl IS DISTINCT FROM i.initprivs)""").format(
        present=_EXPLODED.format(sql.SQL("""coalesce(o.acl, acldefault(o.letter::"char", o.owner))""")),
        initial=_EXPLODED.format(sql.SQL("""coalesce(i.initprivs, acldefault(o.letter::"char", o.owner))""")),
        catalogue=sql.Literal(kind.catalogue),
        rows=kind.rows,
    )


def read(connection: Connection) -> Iterator[Securable]:
    """All objects with an owner or privileges in the connection's database; columns only if they have their own.

    System objects appear only if their privileges differ from those of initdb.
    """
    for kind in _KINDS:
        for name, names, arguments, owner, has_acl, acl, initial, origin, follows, definer in connection.execute(
            _query(kind)
        ):
            yield Securable(
                ObjectName(name, tuple(names), tuple(arguments)),
                owner,
                acl_of(acl or ()) if has_acl else None,
                acl_of(initial or ()) if has_acl and origin != "user" else None,
                origin,
                ObjectName("table", tuple(follows)) if follows else None,
                definer,
            )


def columns(connection: Connection) -> dict[tuple[str, str], frozenset[str]]:
    """The columns of all relations that may have privileges of their own, by (schema, relation)."""
    rows = connection.execute("""
        SELECT n.nspname::text, c.relname::text, array_agg(a.attname::text)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
        GROUP BY 1, 2""")
    return {(schema, relation): frozenset(names) for schema, relation, names in rows}


def defaults(connection: Connection) -> Iterator[DefaultAcl]:
    """All entries of ALTER DEFAULT PRIVILEGES in the connection's database."""
    rows = connection.execute(
        sql.SQL("""
        SELECT pg_get_userbyid(d.defaclrole), coalesce(n.nspname::text, ''), d.defaclobjtype::text, {}, {}
        FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace""").format(
            _EXPLODED.format(sql.SQL("d.defaclacl")),
            _EXPLODED.format(
                sql.SQL("acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END, d.defaclrole)")
            ),
        )
    )
    for role, schema, kind, acl, own in rows:
        yield DefaultAcl(role, schema, kind, acl_of(acl or ()), frozenset() if schema else acl_of(own or ()))
