"""The ties of schemas, read from a catalogue, and the objects outside that depend on them.

All queries need an empty search path, as ``Target.connect`` sets it: only then are the names in expressions
qualified."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import sql

from lastgood.in_place.definitions.ranges import belonging, staying
from lastgood.in_place.ties import (
    DefaultPrivileges,
    EventTrigger,
    Member,
    Policy,
    Privilege,
    Publication,
    Schema,
    TiedKey,
    Ties,
    Trigger,
)
from lastgood.postgres.server import Connection

# The schema of an object, also of those that belong to a relation or an operator family.
_OBJECT_SCHEMAS: LiteralString = """
    SELECT 'pg_class'::regclass::oid AS classid, oid AS objid, relnamespace AS namespace FROM pg_class
    UNION ALL SELECT 'pg_type'::regclass, oid, typnamespace FROM pg_type
    UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc
    UNION ALL SELECT 'pg_constraint'::regclass, oid, connamespace FROM pg_constraint
    UNION ALL SELECT 'pg_attrdef'::regclass, a.oid, c.relnamespace
              FROM pg_attrdef a JOIN pg_class c ON c.oid = a.adrelid
    UNION ALL SELECT 'pg_rewrite'::regclass, r.oid, c.relnamespace
              FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
    UNION ALL SELECT 'pg_trigger'::regclass, t.oid, c.relnamespace
              FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    UNION ALL SELECT 'pg_policy'::regclass, p.oid, c.relnamespace
              FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
    UNION ALL SELECT 'pg_operator'::regclass, oid, oprnamespace FROM pg_operator
    UNION ALL SELECT 'pg_opclass'::regclass, oid, opcnamespace FROM pg_opclass
    UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfnamespace FROM pg_opfamily
    UNION ALL SELECT 'pg_amop'::regclass, a.oid, f.opfnamespace
              FROM pg_amop a JOIN pg_opfamily f ON f.oid = a.amopfamily
    UNION ALL SELECT 'pg_amproc'::regclass, a.oid, f.opfnamespace
              FROM pg_amproc a JOIN pg_opfamily f ON f.oid = a.amprocfamily
    UNION ALL SELECT 'pg_collation'::regclass, oid, collnamespace FROM pg_collation
    UNION ALL SELECT 'pg_conversion'::regclass, oid, connamespace FROM pg_conversion
    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxnamespace FROM pg_statistic_ext
    UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgnamespace FROM pg_ts_config
    UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictnamespace FROM pg_ts_dict
    UNION ALL SELECT 'pg_ts_parser'::regclass, oid, prsnamespace FROM pg_ts_parser
    UNION ALL SELECT 'pg_ts_template'::regclass, oid, tmplnamespace FROM pg_ts_template
"""


# Objects outside of the schemas that depend on an object in them. What an extension owns stays where it is, and its
# array types with it. TOAST tables and a range type's own cast follow their owner. Temporary objects end with their
# session.
_DEPENDENTS = sql.SQL("""
WITH located AS MATERIALIZED ({located}), schemas AS (SELECT oid FROM pg_namespace WHERE nspname = ANY (%(schemas)s)),
     inside AS MATERIALIZED (SELECT p.* FROM located p WHERE p.namespace IN (SELECT oid FROM schemas))
SELECT d.classid::regclass::text, d.objid::int8, pg_describe_object(d.classid, d.objid, 0),
       min(pg_describe_object(d.refclassid, d.refobjid, 0))
FROM pg_depend d JOIN inside r ON r.classid = d.refclassid AND r.objid = d.refobjid
LEFT JOIN inside o ON o.classid = d.classid AND o.objid = d.objid
LEFT JOIN located w ON w.classid = d.classid AND w.objid = d.objid
WHERE o.objid IS NULL AND NOT (d.classid = 'pg_cast'::regclass AND d.deptype = 'i')
  AND (w.namespace IS NULL OR NOT (pg_is_other_temp_schema(w.namespace) OR w.namespace = 'pg_toast'::regnamespace))
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.deptype = 'e' AND e.classid = r.classid AND e.objid = r.objid)
  AND NOT EXISTS (SELECT FROM pg_type t JOIN pg_depend e ON e.classid = r.classid AND e.objid = t.typelem
                  WHERE r.classid = 'pg_type'::regclass AND t.oid = r.objid AND e.deptype = 'e')
  AND NOT (r.classid = 'pg_type'::regclass AND r.objid = ANY (%(types)s))
  AND NOT (r.classid = 'pg_proc'::regclass AND r.objid = ANY (%(routines)s))
GROUP BY 1, 2, 3 ORDER BY 1, 3
""").format(located=sql.SQL(_OBJECT_SCHEMAS))


_PRIVILEGES: LiteralString = """
       (SELECT jsonb_agg(jsonb_build_array(pg_get_userbyid(a.grantor),
               CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable))
        FROM aclexplode({}) a)"""


_SCHEMAS = sql.SQL("""
SELECT n.nspname, pg_get_userbyid(n.nspowner), obj_description(n.oid, 'pg_namespace'), {}
FROM pg_namespace n WHERE n.nspname = ANY (%s) ORDER BY 1
""").format(sql.SQL(_PRIVILEGES.replace("{}", "coalesce(n.nspacl, acldefault('n', n.nspowner))")))


_DEFAULTS = sql.SQL("""
SELECT coalesce(n.nspname, ''), pg_get_userbyid(d.defaclrole), d.defaclobjtype::text, {}, {}
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
WHERE d.defaclnamespace = 0 OR n.nspname = ANY (%s) ORDER BY 1, 2, 3
""").format(
    sql.SQL(_PRIVILEGES.replace("{}", "d.defaclacl")),
    sql.SQL(
        _PRIVILEGES.replace(
            "{}",
            "CASE d.defaclnamespace WHEN 0 THEN "
            "acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END, d.defaclrole) END",
        )
    ),
)


_FOREIGN_KEYS = """
SELECT n.nspname, c.relname, o.conname, pg_get_constraintdef(o.oid), tn.nspname, t.relname, o.convalidated,
       c.relkind = 'p', obj_description(o.oid, 'pg_constraint')
FROM pg_constraint o
JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class t ON t.oid = o.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE o.contype = 'f' AND o.conparentid = 0 AND n.nspname = ANY (%(schemas)s) AND tn.nspname <> ALL (%(schemas)s)
ORDER BY 1, 2, 3
"""


_TRIGGERS = """
SELECT n.nspname, c.relname, t.tgname, pg_get_triggerdef(t.oid), fn.nspname = ANY (%(schemas)s), t.tgconstraint <> 0,
       t.tgenabled::text
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_proc f ON f.oid = t.tgfoid JOIN pg_namespace fn ON fn.oid = f.pronamespace
WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND n.nspname <> ALL (%(schemas)s)
  AND n.nspname NOT LIKE 'lastgood\\_%%' ORDER BY 1, 2, 3
"""


_POLICIES = """
SELECT n.nspname, c.relname, p.polname,
       CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
                     ELSE 'ALL' END,
       p.polpermissive,
       ARRAY(SELECT CASE r WHEN 0 THEN '' ELSE pg_get_userbyid(r)::text END FROM unnest(p.polroles) r ORDER BY 1),
       pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid), p.oid::int8 = ANY (%(tied)s)
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname <> ALL (%(schemas)s) AND n.nspname NOT LIKE 'lastgood\\_%%' ORDER BY 1, 2, 3
"""


_PUBLICATIONS = """
SELECT p.pubname,
       concat_ws(', ', CASE WHEN p.pubinsert THEN 'insert' END, CASE WHEN p.pubupdate THEN 'update' END,
                 CASE WHEN p.pubdelete THEN 'delete' END, CASE WHEN p.pubtruncate THEN 'truncate' END),
       p.pubviaroot, CASE to_jsonb(p) ->> 'pubgencols' WHEN 's' THEN 'stored' WHEN 'n' THEN 'none' END,
       pg_get_userbyid(p.pubowner),
       ARRAY(SELECT jsonb_build_array(n.nspname, c.relname,
                      (SELECT jsonb_agg(a.attname ORDER BY k.n) FROM unnest(r.prattrs) WITH ORDINALITY k (attnum, n)
                       JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum),
                      pg_get_expr(r.prqual, c.oid))
             FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid
             JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE r.prpubid = p.oid AND n.nspname = ANY (%(schemas)s) ORDER BY n.nspname, c.relname),
       ARRAY(SELECT n.nspname::text FROM pg_publication_namespace s JOIN pg_namespace n ON n.oid = s.pnnspid
             WHERE s.pnpubid = p.oid AND n.nspname = ANY (%(schemas)s) ORDER BY 1)
FROM pg_publication p WHERE NOT p.puballtables ORDER BY 1
"""


_EVENT_TRIGGERS = """
SELECT e.evtname, e.evtevent, coalesce(e.evttags, '{}'), n.nspname, f.proname, e.evtenabled::text,
       obj_description(e.oid, 'pg_event_trigger'), pg_get_userbyid(e.evtowner)
FROM pg_event_trigger e JOIN pg_proc f ON f.oid = e.evtfoid JOIN pg_namespace n ON n.oid = f.pronamespace
WHERE n.nspname = ANY (%s) ORDER BY 1
"""


def privileges_of(rows: Any) -> tuple[Privilege, ...]:
    """Privileges from JSON rows of (grantor, grantee, privilege, grantable), sorted."""
    return tuple(
        Privilege(grantor=grantor, grantee=grantee, privilege=privilege, grantable=grantable)
        for grantor, grantee, privilege, grantable in sorted(rows or ())
    )


@dataclass(frozen=True, slots=True)
class Dependent:
    """An object outside of the schemas that depends on one in them, as pg_describe_object names both."""

    catalogue: str
    oid: int
    what: str
    on: str


def dependents(connection: Connection, schemas: Iterable[str]) -> list[Dependent]:
    """All objects outside of the schemas that depend on an object in them, unless that belongs to an extension, or is a
    range type that stays."""
    schemas = list(schemas)
    stay = belonging(staying(connection, schemas))
    every = {"schemas": schemas, "types": list(stay["pg_type"]), "routines": list(stay["pg_proc"])}
    return [Dependent(*row) for row in connection.execute(_DEPENDENTS, every)]


def schemas(connection: Connection, names: Iterable[str]) -> list[Schema]:
    """Those of the schemas that exist, with owner, privileges and comment."""
    return [
        Schema(name=name, owner=owner, comment=comment, privileges=privileges_of(rows))
        for name, owner, comment, rows in connection.execute(_SCHEMAS, [list(names)])
    ]


def default_privileges(connection: Connection, names: Iterable[str]) -> list[DefaultPrivileges]:
    """The default privileges in these schemas and in the whole database, of all roles."""
    return [
        DefaultPrivileges(
            schema_name=schema,
            role=role,
            kind=kind,
            privileges=privileges_of(rows),
            builtin=privileges_of(builtin),
        )
        for schema, role, kind, rows, builtin in connection.execute(_DEFAULTS, [list(names)])
    ]


def foreign_keys(connection: Connection, names: Iterable[str]) -> list[TiedKey]:
    """The foreign keys of tables in these schemas to tables outside of them."""
    return [
        TiedKey(
            schema_name=row[0],
            table=row[1],
            name=row[2],
            definition=row[3].removesuffix(" NOT VALID"),
            target_schema=row[4],
            target_table=row[5],
            validated=row[6],
            partitioned=row[7],
            comment=row[8],
        )
        for row in connection.execute(_FOREIGN_KEYS, {"schemas": list(names)})
    ]


def publications(connection: Connection, names: Iterable[str], also: Collection[str] = ()) -> list[Publication]:
    """The publications of tables in these schemas, or of these schemas as a whole; those named in ``also`` without any,
    too. None of them is FOR ALL TABLES."""
    return [
        Publication(
            name=name,
            publish=publish,
            via_root=via_root,
            generated=generated,
            owner=owner,
            members=tuple(
                Member(
                    schema_name=schema,
                    table=table,
                    columns=tuple(columns) if columns is not None else None,
                    condition=condition,
                )
                for schema, table, columns, condition in members
            ),
            schemas=tuple(whole),
        )
        for name, publish, via_root, generated, owner, members, whole in connection.execute(
            _PUBLICATIONS, {"schemas": list(names)}
        )
        if members or whole or name in also
    ]


def read(connection: Connection, names: Iterable[str], outside: Iterable[Dependent] | None = None) -> Ties:
    """The ties of these schemas. ``outside``: their ``dependents``, if the caller has them."""
    names = list(names)
    if outside is None:
        outside = dependents(connection, names)
    tied = [each.oid for each in outside if each.catalogue == "pg_policy"]
    every = {"schemas": names, "tied": tied}
    return Ties(
        schemas=tuple(schemas(connection, names)),
        default_privileges=tuple(default_privileges(connection, names)),
        foreign_keys=tuple(foreign_keys(connection, names)),
        triggers=tuple(
            Trigger(
                schema_name=row[0],
                table=row[1],
                name=row[2],
                definition=row[3],
                tied=row[4],
                constraint=row[5],
                enabled=row[6],
            )
            for row in connection.execute(_TRIGGERS, every)
        ),
        policies=tuple(
            Policy(
                schema_name=row[0],
                table=row[1],
                name=row[2],
                command=row[3],
                permissive=row[4],
                roles=tuple(row[5]),
                using=row[6],
                check=row[7],
                tied=row[8],
            )
            for row in connection.execute(_POLICIES, every)
        ),
        publications=tuple(publications(connection, names)),
        event_triggers=tuple(
            EventTrigger(
                name=row[0],
                event=row[1],
                tags=tuple(row[2]),
                function_schema=row[3],
                function=row[4],
                enabled=row[5],
                comment=row[6],
                owner=row[7],
            )
            for row in connection.execute(_EVENT_TRIGGERS, [names])
        ),
    )
