"""Schema objects of a database: what pg_dump would write a CREATE for, each with a digest of its definition.

Left out on purpose: members of extensions (the extension's version stands for them), what belongs to another object
(a serial's array type, an index behind a constraint, a partition's copy of a trigger or foreign key), and owners,
privileges and comments, which are not schema.
"""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql
from xxhash import xxh3_128_hexdigest

from lastgood.facts import ObjectFacts
from lastgood.facts.settled import settled
from lastgood.postgres.server import Connection

# For WITH RECURSIVE: which schemas pg_dump takes objects from. public always exists and is never created by an ordinary
# dump. What belongs to a relation of an extension is not among what belongs to a ``relation``.
SCHEMAS: LiteralString = """
  user_schema AS (
    SELECT oid, nspname FROM pg_catalog.pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
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
"""

# Each gives kind, identity, definition.
_QUERIES: tuple[LiteralString, ...] = (
    """
    SELECT 'schema', format('%I', nspname), ''
    FROM user_schema s
    WHERE nspname <> 'public'
      AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_namespace'::regclass AND objid = s.oid)
    """,
    """
    SELECT CASE relkind WHEN 'f' THEN 'foreign table' ELSE 'table' END, identity,
           concat_ws(E'\\n', relkind, relpersistence, relreplident, relrowsecurity, relforcerowsecurity,
             (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(reloptions) o),
             (SELECT amname FROM pg_catalog.pg_am a WHERE a.oid = relam),
             CASE WHEN relkind = 'p' THEN pg_catalog.pg_get_partkeydef(oid) END,
             pg_catalog.pg_get_expr(relpartbound, oid),
             (SELECT string_agg(inhparent::regclass::text, ',' ORDER BY inhseqno)
              FROM pg_catalog.pg_inherits WHERE inhrelid = relation.oid),
             CASE WHEN reloftype <> 0 THEN reloftype::regtype::text END,
             (SELECT concat_ws(' ', s.srvname, f.ftoptions::text)
              FROM pg_catalog.pg_foreign_table f JOIN pg_catalog.pg_foreign_server s ON s.oid = f.ftserver
              WHERE f.ftrelid = relation.oid))
    FROM relation WHERE relkind IN ('r', 'p', 'f')
    """,
    """
    SELECT 'column', format('%s.%I', r.identity, a.attname),
           concat_ws(E'\\n', pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
             a.attgenerated, pg_catalog.pg_get_expr(d.adbin, d.adrelid), a.attstorage, a.attcompression,
             CASE WHEN a.attcollation NOT IN (0, t.typcollation) THEN a.attcollation::regcollation::text END,
             nullif(a.attstattarget, -1),
             (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(a.attoptions) o WHERE o !~ '^pg_'),
             a.attfdwoptions::text,
             (SELECT concat_ws(' ', q.seqtypid::regtype, q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcache,
                               q.seqcycle)
              FROM pg_catalog.pg_depend p JOIN pg_catalog.pg_sequence q ON q.seqrelid = p.objid
              WHERE p.classid = 'pg_catalog.pg_class'::regclass AND p.deptype = 'i'
                AND p.refclassid = 'pg_catalog.pg_class'::regclass AND p.refobjid = r.oid AND p.refobjsubid = a.attnum))
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
    # Invalid indexes are not dumped, except a partitioned one, which is invalid until its last part is attached.
    """
    SELECT 'index', r.identity,
           concat_ws(E'\\n', pg_catalog.pg_get_indexdef(r.oid), i.indisreplident, i.indisclustered, i.indisvalid)
    FROM relation r JOIN pg_catalog.pg_index i ON i.indexrelid = r.oid
    JOIN relation t ON t.oid = i.indrelid
    WHERE (i.indisvalid OR t.relkind = 'p') AND i.indisready
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c
                      WHERE c.conindid = r.oid AND c.conrelid = i.indrelid AND c.contype IN ('p', 'u', 'x'))
    """,
    # contype n (18): a column's NOT NULL, which the column tells; t: a constraint trigger, which is a trigger.
    """
    SELECT CASE c.contype WHEN 'p' THEN 'primary key' WHEN 'u' THEN 'unique constraint'
             WHEN 'x' THEN 'exclusion constraint' WHEN 'f' THEN 'foreign key' ELSE 'check constraint' END,
           format('%I on %s', c.conname, r.identity),
           pg_catalog.pg_get_constraintdef(c.oid)
    FROM pg_catalog.pg_constraint c JOIN relation r ON r.oid = c.conrelid
    WHERE c.contype IN ('p', 'u', 'x')
       OR c.contype = 'f' AND c.conparentid = 0
       OR c.contype = 'c' AND (c.conislocal OR r.relispartition)
    """,
    """
    SELECT 'trigger', format('%I on %s', t.tgname, r.identity),
           concat_ws(E'\\n', pg_catalog.pg_get_triggerdef(t.oid), t.tgenabled)
    FROM pg_catalog.pg_trigger t JOIN relation r ON r.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND t.tgparentid = 0
    """,
    """
    SELECT 'policy', format('%I on %s', p.polname, r.identity),
           concat_ws(E'\\n', p.polcmd, p.polpermissive,
             (SELECT string_agg(CASE role WHEN 0 THEN 'public' ELSE pg_catalog.pg_get_userbyid(role)::text END, ','
                                ORDER BY pg_catalog.pg_get_userbyid(role)) FROM unnest(p.polroles) role),
             'using ' || pg_catalog.pg_get_expr(p.polqual, p.polrelid),
             'check ' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))
    FROM pg_catalog.pg_policy p JOIN relation r ON r.oid = p.polrelid
    """,
    """
    SELECT 'rule', format('%I on %s', w.rulename, r.identity),
           concat_ws(E'\\n', pg_catalog.pg_get_ruledef(w.oid), w.ev_enabled)
    FROM pg_catalog.pg_rewrite w JOIN relation r ON r.oid = w.ev_class
    WHERE w.rulename <> '_RETURN'
    """,
    """
    SELECT CASE relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END, identity,
           concat_ws(E'\\n', pg_catalog.pg_get_viewdef(oid), relispopulated,
             (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(reloptions) o))
    FROM relation WHERE relkind IN ('v', 'm')
    """,
    # An identity column's sequence belongs to its column.
    """
    SELECT 'sequence', r.identity,
           concat_ws(' ', q.seqtypid::regtype, q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcache, q.seqcycle,
             r.relpersistence,
             (SELECT format('%s.%I', p.refobjid::regclass, a.attname)
              FROM pg_catalog.pg_depend p JOIN relation t ON t.oid = p.refobjid
              JOIN pg_catalog.pg_attribute a ON a.attrelid = p.refobjid AND a.attnum = p.refobjsubid
              WHERE p.classid = 'pg_catalog.pg_class'::regclass AND p.objid = r.oid AND p.deptype = 'a'
                AND p.refclassid = 'pg_catalog.pg_class'::regclass))
    FROM relation r JOIN pg_catalog.pg_sequence q ON q.seqrelid = r.oid
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend p
                      WHERE p.classid = 'pg_catalog.pg_class'::regclass AND p.objid = r.oid AND p.deptype = 'i')
    """,
    # The constructors of a range type, and its cast to the multirange, come with the type.
    """
    SELECT CASE p.prokind WHEN 'a' THEN 'aggregate' WHEN 'p' THEN 'procedure' ELSE 'function' END,
           format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.oidvectortypes(p.proargtypes)),
           CASE p.prokind WHEN 'a' THEN
             (SELECT concat_ws(E'\\n', p.prorettype::regtype, pg_catalog.pg_get_function_arguments(p.oid),
                p.proparallel, g.aggkind, g.aggtransfn, g.aggfinalfn, g.aggcombinefn, g.aggserialfn, g.aggdeserialfn,
                g.aggmtransfn,
                g.aggminvtransfn, g.aggmfinalfn, g.aggtranstype::regtype, g.agginitval, g.aggminitval,
                g.aggfinalmodify, g.aggmfinalmodify, g.aggsortop::regoperator)
              FROM pg_catalog.pg_aggregate g WHERE g.aggfnoid = p.oid)
           ELSE pg_catalog.pg_get_functiondef(p.oid) END
    FROM pg_catalog.pg_proc p JOIN user_schema n ON n.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype IN ('e', 'i'))
    """,
    """
    SELECT CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END, format('%I.%I', n.nspname, t.typname),
           concat_ws(E'\\n', t.typtype, t.typisdefined,
             (SELECT string_agg(quote_literal(enumlabel), ',' ORDER BY enumsortorder)
              FROM pg_catalog.pg_enum WHERE enumtypid = t.oid),
             (SELECT string_agg(format('%I %s %s', a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
                                       nullif(a.attcollation, 0)::regcollation), ',' ORDER BY a.attnum)
              FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
             (SELECT concat_ws(' ', g.rngsubtype::regtype, nullif(g.rngcollation, 0)::regcollation,
                               (SELECT opcname FROM pg_catalog.pg_opclass o WHERE o.oid = g.rngsubopc),
                               g.rngcanonical, g.rngsubdiff, g.rngmultitypid::regtype)
              FROM pg_catalog.pg_range g WHERE g.rngtypid = t.oid),
             CASE t.typtype
               WHEN 'b' THEN concat_ws(' ', t.typlen, t.typbyval, t.typalign, t.typstorage, t.typcategory,
                                       t.typispreferred, t.typdelim, t.typinput, t.typoutput, t.typreceive, t.typsend,
                                       t.typmodin, t.typmodout, t.typanalyze, t.typelem::regtype, t.typdefault)
               WHEN 'd' THEN concat_ws(' ', pg_catalog.format_type(t.typbasetype, t.typtypmod), t.typnotnull,
                                       t.typdefault, nullif(t.typcollation, 0)::regcollation)
             END)
    FROM pg_catalog.pg_type t JOIN user_schema n ON n.oid = t.typnamespace
    WHERE t.typtype <> 'm'
      AND (t.typrelid = 0 OR (SELECT relkind FROM pg_catalog.pg_class WHERE oid = t.typrelid) = 'c')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = t.oid)
      AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_type'::regclass AND objid = t.oid)
    """,
    """
    SELECT 'domain constraint', format('%I on %I.%I', c.conname, n.nspname, t.typname),
           pg_catalog.pg_get_constraintdef(c.oid)
    FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_type t ON t.oid = c.contypid
    JOIN user_schema n ON n.oid = t.typnamespace
    WHERE c.contype = 'c'
      AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_type'::regclass AND objid = t.oid)
    """,
    """
    SELECT 'event trigger', format('%I', e.evtname),
           concat_ws(' ', e.evtevent, e.evtfoid::regprocedure, e.evtenabled, e.evttags::text)
    FROM pg_catalog.pg_event_trigger e
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_event_trigger'::regclass AND objid = e.oid)
    """,
    """
    SELECT 'publication', format('%I', p.pubname),
           concat_ws(' ', p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot,
             (SELECT string_agg(concat_ws(' ', r.prrelid::regclass,
                                  (SELECT string_agg(quote_ident(a.attname), ',' ORDER BY a.attname)
                                   FROM pg_catalog.pg_attribute a
                                   WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[])),
                                  pg_catalog.pg_get_expr(r.prqual, r.prrelid)), ',' ORDER BY r.prrelid::regclass::text)
              FROM pg_catalog.pg_publication_rel r JOIN relation t ON t.oid = r.prrelid WHERE r.prpubid = p.oid),
             (SELECT string_agg(s.pnnspid::regnamespace::text, ',' ORDER BY s.pnnspid::regnamespace::text)
              FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = p.oid))
    FROM pg_catalog.pg_publication p
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_publication'::regclass AND objid = p.oid)
    """,
    """
    SELECT 'statistics object', format('%I.%I', n.nspname, s.stxname), pg_catalog.pg_get_statisticsobjdef(s.oid)
    FROM pg_catalog.pg_statistic_ext s JOIN user_schema n ON n.oid = s.stxnamespace
    JOIN relation r ON r.oid = s.stxrelid
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_statistic_ext'::regclass AND objid = s.oid)
    """,
    """
    SELECT 'cast', format('(%s AS %s)', c.castsource::regtype, c.casttarget::regtype),
           concat_ws(' ', nullif(c.castfunc, 0)::regprocedure, c.castcontext, c.castmethod)
    FROM pg_catalog.pg_cast c
    WHERE c.oid >= 16384
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_cast'::regclass AND d.objid = c.oid AND d.deptype IN ('e', 'i'))
    """,
    """
    SELECT 'operator', format('%I.%s(%s,%s)', n.nspname, o.oprname, nullif(o.oprleft, 0)::regtype, o.oprright::regtype),
           concat_ws(' ', o.oprresult::regtype, o.oprcode::regprocedure, o.oprcanmerge, o.oprcanhash,
                     nullif(o.oprcom, 0)::regoperator, nullif(o.oprnegate, 0)::regoperator, o.oprrest, o.oprjoin)
    FROM pg_catalog.pg_operator o JOIN user_schema n ON n.oid = o.oprnamespace
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_operator'::regclass AND objid = o.oid)
    """,
    """
    SELECT 'operator class', format('%I.%I using %s', n.nspname, o.opcname, a.amname),
           concat_ws(' ', o.opcintype::regtype, o.opcdefault, nullif(o.opckeytype, 0)::regtype)
    FROM pg_catalog.pg_opclass o JOIN user_schema n ON n.oid = o.opcnamespace
    JOIN pg_catalog.pg_am a ON a.oid = o.opcmethod
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_opclass'::regclass AND objid = o.oid)
    """,
    """
    SELECT 'operator family', format('%I.%I using %s', n.nspname, f.opfname, a.amname),
           concat_ws(E'\\n',
             (SELECT string_agg(concat_ws(' ', amopstrategy, amopopr::regoperator, amoppurpose), ','
                                ORDER BY amopstrategy, amopopr::regoperator::text)
              FROM pg_catalog.pg_amop WHERE amopfamily = f.oid),
             (SELECT string_agg(concat_ws(' ', amprocnum, amproc::regprocedure), ','
                                ORDER BY amprocnum, amproc::regprocedure::text)
              FROM pg_catalog.pg_amproc WHERE amprocfamily = f.oid))
    FROM pg_catalog.pg_opfamily f JOIN user_schema n ON n.oid = f.opfnamespace
    JOIN pg_catalog.pg_am a ON a.oid = f.opfmethod
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_opfamily'::regclass AND objid = f.oid)
    """,
    """
    SELECT 'collation', format('%I.%I', n.nspname, c.collname),
           concat_ws(' ', c.collprovider, c.collisdeterministic, c.collencoding, c.collcollate, c.collctype)
    FROM pg_catalog.pg_collation c JOIN user_schema n ON n.oid = c.collnamespace
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_collation'::regclass AND objid = c.oid)
    """,
    """
    SELECT 'conversion', format('%I.%I', n.nspname, c.conname),
           concat_ws(' ', c.conforencoding, c.contoencoding, c.conproc, c.condefault)
    FROM pg_catalog.pg_conversion c JOIN user_schema n ON n.oid = c.connamespace
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_conversion'::regclass AND objid = c.oid)
    """,
    """
    SELECT 'text search configuration', format('%I.%I', n.nspname, c.cfgname),
           (SELECT string_agg(concat_ws(' ', m.maptokentype, m.mapseqno, m.mapdict::regdictionary), ','
                              ORDER BY m.maptokentype, m.mapseqno)
            FROM pg_catalog.pg_ts_config_map m WHERE m.mapcfg = c.oid)
    FROM pg_catalog.pg_ts_config c JOIN user_schema n ON n.oid = c.cfgnamespace
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_ts_config'::regclass AND objid = c.oid)
    """,
    """
    SELECT 'text search dictionary', format('%I.%I', n.nspname, d.dictname),
           concat_ws(' ', (SELECT tmplname FROM pg_catalog.pg_ts_template t WHERE t.oid = d.dicttemplate),
                     d.dictinitoption)
    FROM pg_catalog.pg_ts_dict d JOIN user_schema n ON n.oid = d.dictnamespace
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_ts_dict'::regclass AND objid = d.oid)
    """,
    """
    SELECT 'text search parser', format('%I.%I', n.nspname, p.prsname),
           concat_ws(' ', p.prsstart, p.prstoken, p.prsend, p.prsheadline, p.prslextype)
    FROM pg_catalog.pg_ts_parser p JOIN user_schema n ON n.oid = p.prsnamespace
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_ts_parser'::regclass AND objid = p.oid)
    """,
    """
    SELECT 'text search template', format('%I.%I', n.nspname, t.tmplname), concat_ws(' ', t.tmplinit, t.tmpllexize)
    FROM pg_catalog.pg_ts_template t JOIN user_schema n ON n.oid = t.tmplnamespace
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_ts_template'::regclass AND objid = t.oid)
    """,
    # Options of servers and foreign-data wrappers may hold secrets; a digest does not show them. Those of user
    # mappings can be read by few, so they are left out: they would differ with the reader's privileges.
    """
    SELECT 'foreign-data wrapper', format('%I', f.fdwname),
           concat_ws(' ', nullif(f.fdwhandler, 0)::regproc, nullif(f.fdwvalidator, 0)::regproc, f.fdwoptions::text)
    FROM pg_catalog.pg_foreign_data_wrapper f
    WHERE f.oid >= 16384
      AND NOT EXISTS (SELECT FROM member
                      WHERE classid = 'pg_catalog.pg_foreign_data_wrapper'::regclass AND objid = f.oid)
    """,
    """
    SELECT 'server', format('%I', s.srvname),
           concat_ws(' ', (SELECT fdwname FROM pg_catalog.pg_foreign_data_wrapper f WHERE f.oid = s.srvfdw), s.srvtype,
                     s.srvversion, s.srvoptions::text)
    FROM pg_catalog.pg_foreign_server s
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_foreign_server'::regclass AND objid = s.oid)
    """,
    """
    SELECT 'user mapping', format('%s on server %I', coalesce(quote_ident(u.usename), 'public'), u.srvname), ''
    FROM pg_catalog.pg_user_mappings u
    WHERE NOT EXISTS (SELECT FROM member
                      WHERE classid = 'pg_catalog.pg_foreign_server'::regclass AND objid = u.srvid)
    """,
    """
    SELECT 'language', format('%I', l.lanname),
           concat_ws(' ', l.lanpltrusted, nullif(l.lanplcallfoid, 0)::regproc, nullif(l.laninline, 0)::regproc,
                     nullif(l.lanvalidator, 0)::regproc)
    FROM pg_catalog.pg_language l
    WHERE l.oid >= 16384
      AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_language'::regclass AND objid = l.oid)
    """,
    """
    SELECT 'transform', format('for %s language %I', t.trftype::regtype, l.lanname),
           concat_ws(' ', nullif(t.trffromsql, 0)::regproc, nullif(t.trftosql, 0)::regproc)
    FROM pg_catalog.pg_transform t JOIN pg_catalog.pg_language l ON l.oid = t.trflang
    WHERE t.oid >= 16384
      AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_transform'::regclass AND objid = t.oid)
    """,
    """
    SELECT 'access method', format('%I', a.amname), concat_ws(' ', a.amtype, a.amhandler)
    FROM pg_catalog.pg_am a
    WHERE a.oid >= 16384
      AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_am'::regclass AND objid = a.oid)
    """,
)

# What the queries may find: that there is none of a kind is known, too.
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

    Digests are comparable between databases of servers of one major version, and of a database with the one that
    was restored from its dump. Raises psycopg.Error.
    """
    found: list[ObjectFacts] = []
    for query in _QUERIES:
        statement = sql.SQL("WITH RECURSIVE ") + sql.SQL(SCHEMAS) + sql.SQL(query)
        for kind, identity, definition in connection.execute(statement):
            digest = xxh3_128_hexdigest(settled(definition or "").encode())
            found.append(ObjectFacts(kind=kind, identity=identity, digest=digest))
    return tuple(sorted(found, key=lambda one: (one.kind, one.identity)))
