"""Schema objects of a database: objects for which pg_dump would write a CREATE, each with a digest of its definition.

Left out on purpose: members of extensions (the extension's version represents them), objects that belong to another
object (an array type, the index of a constraint, a partition's copy of a trigger or foreign key), and owners,
privileges and comments, which are not schema.
"""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql
from xxhash import xxh3_128_hexdigest

from lastgood.facts import ObjectFacts, types_and_routines
from lastgood.facts.definition_parts import PARTS
from lastgood.facts.settled import settled
from lastgood.postgres.mark import OF_A_RUN
from lastgood.postgres.server import Connection

# For WITH RECURSIVE: the schemas from which pg_dump dumps objects. public always exists and is never created by an
# ordinary dump. The schemas of runs in place are in no backup. ``relation`` excludes relations of extensions, and so
# their dependent objects.
SCHEMAS: LiteralString = """
  user_schema AS (
    SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace n
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT ({of a run})),
  member AS (
    SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'),
  relation AS (
    SELECT c.*, format('%I.%I', n.nspname, c.relname) AS identity
    FROM pg_catalog.pg_class c JOIN user_schema n ON n.oid = c.relnamespace
    WHERE c.relpersistence <> 't'
      AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_catalog.pg_class'::regclass AND m.objid = c.oid)),
  ancestor (child, parent) AS (
    SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits
    UNION
    SELECT a.child, i.inhparent FROM ancestor a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.parent)
""".replace("{of a run}", OF_A_RUN)


# Incremented whenever the digest of a definition changes: digests under different rules are not compared.
DEFINITIONS = 2
# Each returns kind, identity, definition: what pg_dump writes, never raw text of a catalogue, which may have internal
# values, or an order of its own. Definitions of several parts are JSON, so that a missing part can't be mistaken for
# another; those of checks and foreign keys are the server's own text.
_QUERIES: tuple[LiteralString, ...] = (
    """
    SELECT 'schema', format('%I', nspname), ''
    FROM user_schema s
    WHERE nspname <> 'public'
      AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_namespace'::regclass AND objid = s.oid)
    """,
    """
    SELECT CASE relkind WHEN 'f' THEN 'foreign table' ELSE 'table' END, identity,
           json_build_array(relkind, relpersistence, relreplident, relrowsecurity, relforcerowsecurity,
             {options}, {toast},
             (SELECT amname FROM pg_catalog.pg_am a WHERE a.oid = relam),
             CASE WHEN relkind = 'p' THEN pg_catalog.pg_get_partkeydef(oid) END,
             pg_catalog.pg_get_expr(relpartbound, oid),
             (SELECT json_agg(inhparent::regclass ORDER BY inhparent::regclass::text COLLATE "C")
              FROM pg_catalog.pg_inherits WHERE inhrelid = r.oid),
             nullif(reloftype, 0)::regtype,
             (SELECT json_build_array(s.srvname, (SELECT json_agg(o ORDER BY o COLLATE "C") FROM unnest(f.ftoptions) o))
              FROM pg_catalog.pg_foreign_table f JOIN pg_catalog.pg_foreign_server s ON s.oid = f.ftserver
              WHERE f.ftrelid = r.oid))::text
    FROM relation r WHERE relkind IN ('r', 'p', 'f')
    """,
    # Before 18, a child's column without a declaration becomes NOT NULL after a dump if a parent's column is. Since 18,
    # NOT NULL has a name, and pg_dump writes it if the table itself declares it, or if no parent's is valid.
    """
    SELECT 'column', format('%s.%I', r.identity, a.attname),
           json_build_array(pg_catalog.format_type(a.atttypid, a.atttypmod),
             a.attnotnull OR current_setting('server_version_num')::int < 180000 AND NOT r.relispartition AND EXISTS (
               SELECT FROM pg_catalog.pg_inherits h
               JOIN pg_catalog.pg_attribute p ON p.attrelid = h.inhparent AND p.attname = a.attname AND p.attnotnull
               WHERE h.inhrelid = r.oid),
             CASE WHEN a.attnotnull THEN (SELECT json_build_array(c.conname, c.connoinherit, c.convalidated)
              FROM pg_catalog.pg_constraint c
              WHERE c.conrelid = r.oid AND c.contype = 'n' AND c.conkey = ARRAY[a.attnum]
                AND (c.conislocal OR c.convalidated AND NOT EXISTS (
                  SELECT FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_attribute p ON p.attrelid = h.inhparent
                  JOIN pg_catalog.pg_constraint n ON n.conrelid = p.attrelid AND n.conkey = ARRAY[p.attnum]
                  WHERE h.inhrelid = r.oid AND p.attname = a.attname AND n.contype = 'n' AND n.convalidated))) END,
             r.relispartition OR a.attislocal, a.attidentity, a.attgenerated,
             pg_catalog.pg_get_expr(d.adbin, d.adrelid),
             CASE WHEN a.attcollation NOT IN (0, t.typcollation) THEN a.attcollation::regcollation END,
             {of_column}, CASE WHEN a.attfdwoptions IS NOT NULL THEN
               (SELECT json_agg(o ORDER BY o COLLATE "C") FROM unnest(a.attfdwoptions) o) END,
             -- Its type is the column's; releases of one major version differ in whether it is unlogged with its table.
             (SELECT json_build_array({sequence})
              FROM pg_catalog.pg_depend p JOIN pg_catalog.pg_sequence q ON q.seqrelid = p.objid
              WHERE p.classid = 'pg_catalog.pg_class'::regclass AND p.deptype = 'i'
                AND p.refclassid = 'pg_catalog.pg_class'::regclass AND p.refobjid = r.oid
                AND p.refobjsubid = a.attnum))::text
    FROM relation r
    JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
    WHERE r.relkind IN ('r', 'p', 'f')
      AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_catalog.pg_type'::regclass AND m.objid = r.reloftype)
      AND (a.attislocal OR r.relispartition OR EXISTS (
        SELECT FROM ancestor s JOIN relation p ON p.oid = s.parent
        JOIN pg_catalog.pg_attribute declared ON declared.attrelid = p.oid AND declared.attname = a.attname
        WHERE s.child = r.oid AND declared.attislocal))
    """,
    # Invalid indexes are not dumped, except partitioned ones, which are invalid until their last partition is attached.
    """
    SELECT 'index', r.identity,
           json_build_array(pg_catalog.pg_get_indexdef(r.oid),
             {of_index})::text
    FROM relation r JOIN pg_catalog.pg_index i ON i.indexrelid = r.oid
    JOIN relation t ON t.oid = i.indrelid
    WHERE (i.indisvalid OR t.relkind = 'p') AND i.indisready
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c
                      WHERE c.conindid = r.oid AND c.conrelid = i.indrelid AND c.contype IN ('p', 'u', 'x'))
    """,
    # contype n (18): a column's NOT NULL, which is part of the column; t: a constraint trigger, which is a trigger.
    """
    SELECT CASE c.contype WHEN 'p' THEN 'primary key' WHEN 'u' THEN 'unique constraint'
             WHEN 'x' THEN 'exclusion constraint' WHEN 'f' THEN 'foreign key' ELSE 'check constraint' END,
           format('%I on %s', c.conname, t.identity),
           CASE WHEN r.oid IS NULL THEN pg_catalog.pg_get_constraintdef(c.oid)
                ELSE json_build_array(pg_catalog.pg_get_constraintdef(c.oid),
             {options}, {of_index})::text END
    FROM pg_catalog.pg_constraint c JOIN relation t ON t.oid = c.conrelid
    LEFT JOIN (pg_catalog.pg_index i JOIN pg_catalog.pg_class r ON r.oid = i.indexrelid)
      ON i.indexrelid = c.conindid AND c.contype IN ('p', 'u', 'x')
    WHERE c.contype IN ('p', 'u', 'x')
       OR c.contype = 'f' AND c.conparentid = 0
       OR c.contype = 'c' AND (c.conislocal OR t.relispartition)
    """,
    """
    SELECT 'trigger', format('%I on %s', t.tgname, r.identity),
           json_build_array(pg_catalog.pg_get_triggerdef(t.oid), t.tgenabled,
             (SELECT json_agg(json_build_array(k.tgrelid::regclass, k.tgenabled)
                              ORDER BY k.tgrelid::regclass::text COLLATE "C")
              FROM pg_catalog.pg_partition_tree(t.tgrelid) part
              JOIN pg_catalog.pg_trigger k ON k.tgrelid = part.relid AND k.tgname = t.tgname
              JOIN pg_catalog.pg_trigger above ON above.oid = k.tgparentid
              WHERE k.tgenabled <> above.tgenabled),
             {trigger_depends})::text
    FROM pg_catalog.pg_trigger t JOIN relation r ON r.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND t.tgparentid = 0
    """,
    """
    SELECT 'policy', format('%I on %s', p.polname, r.identity),
           json_build_array(p.polcmd, p.polpermissive,
             (SELECT json_agg(CASE role WHEN 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(role) END
                              ORDER BY pg_catalog.pg_get_userbyid(role)) FROM unnest(p.polroles) role),
             pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))::text
    FROM pg_catalog.pg_policy p JOIN relation r ON r.oid = p.polrelid
    """,
    """
    SELECT 'rule', format('%I on %s', w.rulename, r.identity),
           json_build_array(pg_catalog.pg_get_ruledef(w.oid), w.ev_enabled)::text
    FROM pg_catalog.pg_rewrite w JOIN relation r ON r.oid = w.ev_class
    WHERE w.rulename <> '_RETURN'
    """,
    """
    SELECT CASE relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END, identity,
           json_build_array(pg_catalog.pg_get_viewdef(oid), relispopulated, relreplident,
             (SELECT amname FROM pg_catalog.pg_am a WHERE a.oid = relam),
             {options}, {toast},
             CASE relkind WHEN 'm' THEN
               (SELECT json_agg(json_build_array(a.attname, {of_column}) ORDER BY a.attnum)
                FROM pg_catalog.pg_attribute a WHERE a.attrelid = r.oid AND a.attnum > 0)
              ELSE (SELECT json_agg(json_build_array(a.attname, pg_catalog.pg_get_expr(d.adbin, d.adrelid))
                                    ORDER BY a.attnum)
                    FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a
                      ON a.attrelid = d.adrelid AND a.attnum = d.adnum
                    WHERE d.adrelid = r.oid) END,
             {view_depends})::text
    FROM relation r WHERE relkind IN ('v', 'm')
    """,
    # An identity column's sequence belongs to its column.
    """
    SELECT 'sequence', r.identity,
           json_build_array(q.seqtypid::regtype, {sequence}, r.relpersistence,
             (SELECT format('%s.%I', p.refobjid::regclass, a.attname)
              FROM pg_catalog.pg_depend p
              JOIN pg_catalog.pg_attribute a ON a.attrelid = p.refobjid AND a.attnum = p.refobjsubid
              WHERE p.classid = 'pg_catalog.pg_class'::regclass AND p.objid = r.oid AND p.deptype = 'a'
                AND p.refclassid = 'pg_catalog.pg_class'::regclass
                AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
                                WHERE e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = p.refobjid
                                  AND e.objsubid = 0 AND e.deptype = 'e')))::text
    FROM relation r JOIN pg_catalog.pg_sequence q ON q.seqrelid = r.oid
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend p
                      WHERE p.classid = 'pg_catalog.pg_class'::regclass AND p.objid = r.oid AND p.deptype = 'i')
    """,
    """
    SELECT 'event trigger', format('%I', e.evtname),
           json_build_array(e.evtevent, e.evtfoid::regprocedure, e.evtenabled,
             (SELECT json_agg(o ORDER BY o COLLATE "C") FROM unnest(e.evttags) o))::text
    FROM pg_catalog.pg_event_trigger e JOIN pg_catalog.pg_proc f ON f.oid = e.evtfoid
    WHERE f.pronamespace NOT IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'lastgood_guard')
      AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_event_trigger'::regclass AND objid = e.oid)
    """,
    """
    SELECT 'publication', format('%I', p.pubname),
           json_build_array(p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot,
             to_jsonb(p) ->> 'pubgencols',
             (SELECT json_agg(json_build_array(r.prrelid::regclass,
                                (SELECT json_agg(a.attname ORDER BY a.attname)
                                 FROM pg_catalog.pg_attribute a
                                 WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[])),
                                pg_catalog.pg_get_expr(r.prqual, r.prrelid))
                              ORDER BY r.prrelid::regclass::text COLLATE "C")
              FROM pg_catalog.pg_publication_rel r JOIN relation t ON t.oid = r.prrelid WHERE r.prpubid = p.oid),
             (SELECT json_agg(s.pnnspid::regnamespace ORDER BY s.pnnspid::regnamespace::text COLLATE "C")
              FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = p.oid))::text
    FROM pg_catalog.pg_publication p
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_publication'::regclass AND objid = p.oid)
    """,
    """
    SELECT 'statistics object', format('%I.%I', n.nspname, s.stxname),
           json_build_array(pg_catalog.pg_get_statisticsobjdef(s.oid), nullif(s.stxstattarget, -1))::text
    FROM pg_catalog.pg_statistic_ext s JOIN user_schema n ON n.oid = s.stxnamespace
    JOIN relation r ON r.oid = s.stxrelid
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_statistic_ext'::regclass AND objid = s.oid)
    """,
    # Options of servers and foreign-data wrappers may contain secrets; a digest does not show them. Those of user
    # mappings are left out: they would depend on the reader's privileges.
    """
    SELECT 'foreign-data wrapper', format('%I', f.fdwname),
           json_build_array(nullif(f.fdwhandler, 0)::regprocedure, nullif(f.fdwvalidator, 0)::regprocedure,
             (SELECT json_agg(o ORDER BY o COLLATE "C") FROM unnest(f.fdwoptions) o))::text
    FROM pg_catalog.pg_foreign_data_wrapper f
    WHERE f.oid >= 16384
      AND NOT EXISTS (SELECT FROM member
                      WHERE classid = 'pg_catalog.pg_foreign_data_wrapper'::regclass AND objid = f.oid)
    """,
    """
    SELECT 'server', format('%I', s.srvname),
           json_build_array((SELECT fdwname FROM pg_catalog.pg_foreign_data_wrapper f WHERE f.oid = s.srvfdw),
             s.srvtype, s.srvversion,
             (SELECT json_agg(o ORDER BY o COLLATE "C") FROM unnest(s.srvoptions) o))::text
    FROM pg_catalog.pg_foreign_server s
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_foreign_server'::regclass AND objid = s.oid)
    """,
    """
    SELECT 'user mapping', format('%s on server %I', coalesce(quote_ident(u.usename), 'public'), u.srvname), ''
    FROM pg_catalog.pg_user_mappings u
    WHERE NOT EXISTS (SELECT FROM member
                      WHERE classid = 'pg_catalog.pg_foreign_server'::regclass AND objid = u.srvid)
    """,
    *types_and_routines.QUERIES,
)

# The kinds that the queries may find: 0 objects of a kind is a fact, too.
KINDS = (
    "schema", "table", "foreign table", "column", "index", "primary key", "unique constraint", "exclusion constraint",
    "foreign key", "check constraint", "trigger", "policy", "rule", "view", "materialized view", "sequence", "function",
    "procedure", "aggregate", "type", "domain", "domain constraint", "event trigger", "publication",
    "statistics object", "cast", "operator", "operator class", "operator family", "collation", "conversion",
    "text search configuration", "text search dictionary", "text search parser", "text search template",
    "foreign-data wrapper", "server", "user mapping", "language", "transform", "access method",
)  # fmt: skip


def read_objects(connection: Connection) -> tuple[ObjectFacts, ...]:
    """Every schema object, sorted by kind and identity. ``search_path`` must be empty, so that names are qualified.

    Digests are comparable between databases of servers of one major version, and between a database and one restored
    from its dump. Raises psycopg.Error.
    """
    found: list[ObjectFacts] = []
    for query in _QUERIES:
        statement = sql.SQL("WITH RECURSIVE ") + sql.SQL(SCHEMAS) + sql.SQL(query).format(**PARTS)
        for kind, identity, definition in connection.execute(statement):
            digest = xxh3_128_hexdigest(settled(definition or "").encode())
            found.append(ObjectFacts(kind=kind, identity=identity, digest=digest))
    return tuple(sorted(found, key=lambda one: (one.kind, one.identity)))
