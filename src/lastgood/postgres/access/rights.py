"""Owners, privileges, comments and labels of all objects in a database, as lines of text, to detect changes. Facts do
not contain them, since those that a restore point lacks are carried over from the live database."""

from __future__ import annotations

from lastgood.postgres.server import Connection

# Objects from initdb have lower OIDs; of these only the schema public is meant for changes by users. (The OID of a
# large object is chosen by its creator.)
_OURS = 16384
_RIGHTS = """
WITH owned (class, number, owner, acl, more) AS (
    SELECT 'pg_class'::regclass, oid, relowner, relacl, '' FROM pg_class
      WHERE relkind NOT IN ('i', 'I', 't') AND relpersistence <> 't'
    UNION ALL SELECT 'pg_proc'::regclass, oid, proowner, proacl, '' FROM pg_proc
    UNION ALL SELECT 'pg_namespace'::regclass, CASE WHEN nspname = 'public' THEN {ours} ELSE oid END, nspowner, nspacl,
      CASE WHEN nspname = 'public' THEN 'public' ELSE '' END FROM pg_namespace WHERE nspname !~ '^pg_'
    UNION ALL SELECT 'pg_type'::regclass, oid, typowner, typacl, '' FROM pg_type WHERE typelem = 0
    UNION ALL SELECT 'pg_language'::regclass, oid, lanowner, lanacl, '' FROM pg_language
    UNION ALL SELECT 'pg_largeobject'::regclass, oid, lomowner, lomacl, '' FROM pg_largeobject_metadata
    UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, fdwowner, fdwacl, '' FROM pg_foreign_data_wrapper
    UNION ALL SELECT 'pg_foreign_server'::regclass, oid, srvowner, srvacl, '' FROM pg_foreign_server
    UNION ALL SELECT 'pg_collation'::regclass, oid, collowner, NULL, '' FROM pg_collation
    UNION ALL SELECT 'pg_conversion'::regclass, oid, conowner, NULL, '' FROM pg_conversion
    UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner, NULL, '' FROM pg_operator
    UNION ALL SELECT 'pg_opclass'::regclass, oid, opcowner, NULL, '' FROM pg_opclass
    UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfowner, NULL, '' FROM pg_opfamily
    UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgowner, NULL, '' FROM pg_ts_config
    UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictowner, NULL, '' FROM pg_ts_dict
    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxowner, NULL, coalesce(stxstattarget::text, '')
      FROM pg_statistic_ext
    UNION ALL SELECT 'pg_publication'::regclass, oid, pubowner, NULL, '' FROM pg_publication
    UNION ALL SELECT 'pg_event_trigger'::regclass, oid, evtowner, NULL, '' FROM pg_event_trigger
    UNION ALL SELECT 'pg_extension'::regclass, oid, extowner, NULL, '' FROM pg_extension
)
SELECT format('owner and privileges of %s %s%s: %s %s', coalesce(i.type, 'schema'), i.identity, o.more,
              pg_get_userbyid(o.owner),
              (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(o.acl) a))
FROM owned o CROSS JOIN LATERAL pg_identify_object(o.class, o.number, 0) i
WHERE o.number >= {ours} OR o.class = 'pg_largeobject'::regclass
UNION ALL
SELECT format('privileges of column %s.%s: %s', attrelid::regclass, attname,
              (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(attacl) a))
FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid >= {ours} AND NOT attisdropped
UNION ALL
SELECT format('default privileges of %s in %s on %s: %s', pg_get_userbyid(defaclrole), defaclnamespace::regnamespace,
              defaclobjtype, (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(defaclacl) a))
FROM pg_default_acl
UNION ALL
SELECT format('comment on %s %s: %s', i.type, i.identity, d.description)
FROM pg_description d CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) i
WHERE d.objoid >= {ours} OR d.classoid IN ('pg_namespace'::regclass, 'pg_largeobject'::regclass)
UNION ALL
SELECT format('label of %s on %s %s: %s', l.provider, i.type, i.identity, l.label)
FROM pg_seclabel l CROSS JOIN LATERAL pg_identify_object(l.classoid, l.objoid, l.objsubid) i
""".replace("{ours}", str(_OURS))


def rights(connection: Connection) -> frozenset[str]:
    """One line per object, comment and label. Raises psycopg.Error."""
    with connection.transaction():
        # Names are printed with their schemas, and no user's table hides one of the catalogue.
        connection.execute("SET LOCAL search_path = pg_catalog")
        return frozenset(str(line) for (line,) in connection.execute(_RIGHTS.encode()))
