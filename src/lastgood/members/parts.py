"""The members of a database's extensions, part by part, with the commands that create each part as it is here.

A part is a member of an extension, a property of one that can be altered by itself (a function's volatility, a column,
a comment), or a dependent object (an index, a trigger, a policy). pg_dump writes none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from lastgood.postgres.server import Connection


@dataclass(frozen=True, slots=True)
class Part:
    """A part: ``kind`` is one of ``KINDS``, ``identity`` is qualified, ``definition`` is a text that differs between
    any two states of the part. ``commands`` create it, in this order; empty where that is impossible. ``removal``
    removes it.
    """

    extension: str
    kind: str
    identity: str
    definition: str
    commands: tuple[str, ...]
    removal: tuple[str, ...]


# In the order of creation. Before the rows of a restore point: parts that its own commands or its rows may need.
EARLY = ("member", "function body", "function", "enum value", "domain", "dictionary", "column")
LATE = (
    "column default", "not null", "constraint", "foreign key", "index", "statistics object", "view", "table property",
    "text search mapping", "operator family", "sequence", "rule", "policy", "trigger", "publication", "user mapping",
    "comment", "owner",
)  # fmt: skip
KINDS = EARLY + LATE

# The members, for the queries below; ``relation``, ``func`` and ``type`` are the members of a kind.
MEMBERS: LiteralString = """
WITH member AS (
    SELECT d.classid, d.objid, e.extname, e.extowner
    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
    WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e' AND d.objsubid = 0 AND e.oid >= 16384
      -- A table's row type and a type's array type come with these.
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
        WHERE d.classid = 'pg_catalog.pg_type'::regclass AND t.oid = d.objid
          AND (c.relkind <> 'c' OR EXISTS (SELECT FROM pg_catalog.pg_type element WHERE element.typarray = t.oid)))),
  relation AS (
    SELECT c.*, m.extname, m.extowner, format('%I.%I', n.nspname, c.relname) AS identity
    FROM member m JOIN pg_catalog.pg_class c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relpersistence <> 't'),
  func AS (
    SELECT p.*, m.extname, p.oid::regprocedure::text AS identity,
           CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END AS word, l.lanname AS language
    FROM member m JOIN pg_catalog.pg_proc p ON m.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = m.objid
    JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE p.prokind <> 'a'),
  type AS (
    SELECT t.*, m.extname, t.oid::regtype::text AS identity
    FROM member m JOIN pg_catalog.pg_type t ON m.classid = 'pg_catalog.pg_type'::regclass AND t.oid = m.objid)
"""

# Each returns extension, kind, identity, definition, commands, removal. format() returns NULL for missing parts.
_QUERIES: tuple[LiteralString, ...] = (
    """
    SELECT m.extname, 'member', i.type || ' ' || i.identity, '',
           CASE WHEN made.command IS NOT NULL
             THEN array[made.command, format('ALTER EXTENSION %I ADD %s %s', m.extname, w.word, i.identity)] END,
           array[format('ALTER EXTENSION %I DROP %s %s', m.extname, w.word, i.identity),
                 format('DROP %s %s', w.word, i.identity)]
    FROM member m CROSS JOIN LATERAL pg_catalog.pg_identify_object(m.classid, m.objid, 0) i
    CROSS JOIN LATERAL (SELECT upper(replace(i.type, '-', ' ')) AS word) w
    LEFT JOIN func f ON m.classid = 'pg_catalog.pg_proc'::regclass AND f.oid = m.objid
      AND f.language NOT IN ('c', 'internal')
    CROSS JOIN LATERAL (
      SELECT CASE i.type
        WHEN 'table' THEN CASE WHEN EXISTS (
            SELECT FROM relation r WHERE r.oid = m.objid AND r.relkind = 'r' AND r.reloftype = 0
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE r.oid IN (h.inhrelid, h.inhparent)))
          THEN format('CREATE TABLE %s ()', i.identity) END
        -- As pg_dump makes views of a circle: first the columns only, the query when what it reads is complete.
        WHEN 'view' THEN format('CREATE VIEW %s AS SELECT ', i.identity) || (
          SELECT string_agg(format('NULL::%s%s AS %I', pg_catalog.format_type(a.atttypid, a.atttypmod),
                                   ' COLLATE ' || nullif(a.attcollation, 0)::regcollation, a.attname),
                            ', ' ORDER BY a.attnum)
          FROM pg_catalog.pg_attribute a WHERE a.attrelid = m.objid AND a.attnum > 0)
        WHEN 'sequence' THEN format('CREATE SEQUENCE %s', i.identity)
        WHEN 'schema' THEN format('CREATE SCHEMA %s', i.identity)
        ELSE pg_catalog.pg_get_functiondef(f.oid)
      END AS command) made
    """,
    """
    SELECT extname, 'function', identity,
           concat_ws(' ', provolatile, proisstrict, prosecdef, proleakproof, proparallel, procost, prorows, proconfig),
           array[concat_ws(' ', 'ALTER', word, identity,
             CASE WHEN prokind <> 'p' THEN concat_ws(' ',
               CASE provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END,
               CASE WHEN proisstrict THEN 'STRICT' ELSE 'CALLED ON NULL INPUT' END,
               CASE WHEN proleakproof THEN 'LEAKPROOF' ELSE 'NOT LEAKPROOF' END,
               'PARALLEL', CASE proparallel WHEN 's' THEN 'SAFE' WHEN 'r' THEN 'RESTRICTED' ELSE 'UNSAFE' END,
               'COST', procost, CASE WHEN proretset THEN format('ROWS %s', prorows) END) END,
             CASE WHEN prosecdef THEN 'SECURITY DEFINER' ELSE 'SECURITY INVOKER' END,
             'RESET ALL',
             (SELECT string_agg(btrim(line), ' ') FROM
                regexp_split_to_table(split_part(pg_catalog.pg_get_functiondef(oid), E'\\nAS ', 1), E'\\n') line
              WHERE line LIKE ' SET %%'))],
           NULL
    FROM func
    """,
    """
    SELECT extname, 'function body', identity,
           concat_ws(E'\\n', prosrc, probin, pg_catalog.pg_get_function_sqlbody(oid), prorettype::regtype,
                     pg_catalog.pg_get_function_arguments(oid)),
           CASE WHEN language NOT IN ('c', 'internal') THEN array[pg_catalog.pg_get_functiondef(oid)] END,
           NULL
    FROM func
    """,
    """
    SELECT t.extname, 'enum value', format('%s %L', t.identity, e.enumlabel), '',
           array[format('ALTER TYPE %s ADD VALUE IF NOT EXISTS %L', t.identity, e.enumlabel)
             || coalesce((SELECT format(' AFTER %L', b.enumlabel) FROM pg_catalog.pg_enum b
                          WHERE b.enumtypid = t.oid AND b.enumsortorder < e.enumsortorder
                          ORDER BY b.enumsortorder DESC LIMIT 1), '')],
           NULL
    FROM type t JOIN pg_catalog.pg_enum e ON e.enumtypid = t.oid
    ORDER BY e.enumsortorder
    """,
    """
    SELECT extname, 'domain', identity, concat_ws(' ', typnotnull, typdefault),
           array[format('ALTER DOMAIN %s %s NOT NULL', identity, CASE WHEN typnotnull THEN 'SET' ELSE 'DROP' END),
                 format('ALTER DOMAIN %s ', identity) || coalesce('SET DEFAULT ' || typdefault, 'DROP DEFAULT')],
           NULL
    FROM type WHERE typtype = 'd'
    """,
    """
    SELECT t.extname, 'domain', format('%s constraint %I', t.identity, c.conname),
           pg_catalog.pg_get_constraintdef(c.oid),
           array[format('ALTER DOMAIN %s ADD CONSTRAINT %I %s', t.identity, c.conname,
                        pg_catalog.pg_get_constraintdef(c.oid))],
           array[format('ALTER DOMAIN %s DROP CONSTRAINT %I', t.identity, c.conname)]
    FROM type t JOIN pg_catalog.pg_constraint c ON c.contypid = t.oid WHERE c.contype = 'c'
    """,
    """
    SELECT m.extname, 'dictionary', format('%I.%I', n.nspname, d.dictname), d.dictinitoption,
           array[format('ALTER TEXT SEARCH DICTIONARY %I.%I (%s)', n.nspname, d.dictname, d.dictinitoption)], NULL
    FROM member m JOIN pg_catalog.pg_ts_dict d
      ON m.classid = 'pg_catalog.pg_ts_dict'::regclass AND d.oid = m.objid
    JOIN pg_catalog.pg_namespace n ON n.oid = d.dictnamespace
    WHERE d.dictinitoption IS NOT NULL
    """,
    """
    SELECT r.extname, 'column', format('%s.%I', r.identity, a.attname),
           concat_ws(' ', pg_catalog.format_type(a.atttypid, a.atttypmod), nullif(a.attcollation, t.typcollation),
                     nullif(a.attgenerated, ''), CASE WHEN a.attgenerated <> ''
                       THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END),
           array[format('ALTER TABLE %s ADD COLUMN %I %s', r.identity, a.attname,
                        pg_catalog.format_type(a.atttypid, a.atttypmod))
             || CASE WHEN a.attcollation NOT IN (0, t.typcollation)
                  THEN ' COLLATE ' || a.attcollation::regcollation ELSE '' END
             || CASE a.attgenerated WHEN '' THEN '' ELSE format(' GENERATED ALWAYS AS (%s) %s',
                  pg_catalog.pg_get_expr(d.adbin, d.adrelid),
                  CASE a.attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END) END],
           array[format('ALTER TABLE %s DROP COLUMN %I', r.identity, a.attname)]
    FROM relation r
    JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
    WHERE r.relkind IN ('r', 'p')
    ORDER BY r.oid, a.attnum
    """,
    """
    SELECT r.extname, 'column default', format('%s.%I', r.identity, a.attname),
           concat_ws(' ', pg_catalog.pg_get_expr(d.adbin, d.adrelid), a.attidentity),
           array[format('ALTER TABLE %s ALTER COLUMN %I ', r.identity, a.attname)
             || CASE WHEN d.adbin IS NOT NULL THEN 'SET DEFAULT ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid)
                     ELSE format('ADD GENERATED %s AS IDENTITY',
                                 CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END) END],
           array[format('ALTER TABLE %s ALTER COLUMN %I DROP %s', r.identity, a.attname,
                        CASE a.attidentity WHEN '' THEN 'DEFAULT' ELSE 'IDENTITY' END)]
    FROM relation r
    JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
    WHERE r.relkind IN ('r', 'p', 'v') AND a.attgenerated = '' AND (d.adbin IS NOT NULL OR a.attidentity <> '')
    """,
    """
    SELECT r.extname, 'not null', format('%s.%I', r.identity, a.attname), '',
           array[format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', r.identity, a.attname)],
           array[format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', r.identity, a.attname)]
    FROM relation r
    JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
    WHERE r.relkind IN ('r', 'p')
    """,
    """
    SELECT r.extname, CASE c.contype WHEN 'f' THEN 'foreign key' ELSE 'constraint' END,
           format('%I on %s', c.conname, r.identity), pg_catalog.pg_get_constraintdef(c.oid),
           array[format('ALTER TABLE %s ADD CONSTRAINT %I %s', r.identity, c.conname,
                        pg_catalog.pg_get_constraintdef(c.oid))],
           array[format('ALTER TABLE %s DROP CONSTRAINT %I', r.identity, c.conname)]
    FROM pg_catalog.pg_constraint c JOIN relation r ON r.oid = c.conrelid
    WHERE c.contype IN ('p', 'u', 'x', 'c', 'f') AND c.conparentid = 0 AND (c.contype <> 'c' OR c.conislocal)
    """,
    """
    SELECT r.extname, 'index', n.name, concat_ws(' ', pg_catalog.pg_get_indexdef(c.oid), i.indisreplident),
           array[pg_catalog.pg_get_indexdef(c.oid)]
             || CASE WHEN i.indisreplident
                  THEN format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', r.identity, c.relname) END,
           array[format('DROP INDEX %s', n.name)]
    FROM pg_catalog.pg_index i JOIN relation r ON r.oid = i.indrelid
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    CROSS JOIN LATERAL (SELECT format('%I.%I', c.relnamespace::regnamespace::text, c.relname) AS name) n
    WHERE i.indisvalid AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = c.oid)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k
                      WHERE k.conindid = c.oid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x'))
    """,
    """
    SELECT r.extname, 'statistics object', format('%I.%I', s.stxnamespace::regnamespace::text, s.stxname),
           pg_catalog.pg_get_statisticsobjdef(s.oid), array[pg_catalog.pg_get_statisticsobjdef(s.oid)],
           array[format('DROP STATISTICS %I.%I', s.stxnamespace::regnamespace::text, s.stxname)]
    FROM pg_catalog.pg_statistic_ext s JOIN relation r ON r.oid = s.stxrelid
    """,
    """
    SELECT extname, 'view', identity, concat_ws(E'\\n', pg_catalog.pg_get_viewdef(oid), reloptions),
           CASE relkind WHEN 'v' THEN array[format('CREATE OR REPLACE VIEW %s %s AS %s', identity,
             'WITH (' || array_to_string(reloptions, ', ') || ')', pg_catalog.pg_get_viewdef(oid))] END,
           NULL
    FROM relation WHERE relkind IN ('v', 'm')
    """,
    """
    SELECT extname, 'table property', identity,
           concat_ws(' ', relrowsecurity, relforcerowsecurity, nullif(relreplident, 'i'), reloptions, relpersistence),
           array[format('ALTER TABLE %s %s ROW LEVEL SECURITY, %s ROW LEVEL SECURITY', identity,
                        CASE WHEN relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END,
                        CASE WHEN relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END)]
             || CASE relreplident WHEN 'f' THEN format('ALTER TABLE %s REPLICA IDENTITY FULL', identity)
                  WHEN 'n' THEN format('ALTER TABLE %s REPLICA IDENTITY NOTHING', identity) END
             || CASE WHEN reloptions IS NOT NULL
                  THEN format('ALTER TABLE %s SET (%s)', identity, array_to_string(reloptions, ', ')) END
             || CASE relpersistence WHEN 'u' THEN format('ALTER TABLE %s SET UNLOGGED', identity) END,
           NULL
    FROM relation WHERE relkind IN ('r', 'p')
    """,
    """
    SELECT m.extname, 'text search mapping',
           format('%I.%I %s', n.nspname, c.cfgname, coalesce(t.alias, p.maptokentype::text)),
           string_agg(p.mapdict::regdictionary::text, ', ' ORDER BY p.mapseqno),
           array[format('ALTER TEXT SEARCH CONFIGURATION %I.%I DROP MAPPING IF EXISTS FOR %s', n.nspname, c.cfgname,
                        t.alias),
                 format('ALTER TEXT SEARCH CONFIGURATION %I.%I ADD MAPPING FOR %s WITH %s', n.nspname, c.cfgname,
                        t.alias, string_agg(p.mapdict::regdictionary::text, ', ' ORDER BY p.mapseqno))],
           array[format('ALTER TEXT SEARCH CONFIGURATION %I.%I DROP MAPPING FOR %s', n.nspname, c.cfgname, t.alias)]
    FROM member m JOIN pg_catalog.pg_ts_config c
      ON m.classid = 'pg_catalog.pg_ts_config'::regclass AND c.oid = m.objid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.cfgnamespace
    JOIN pg_catalog.pg_ts_config_map p ON p.mapcfg = c.oid
    LEFT JOIN LATERAL pg_catalog.ts_token_type(c.cfgparser) t ON t.tokid = p.maptokentype
    GROUP BY m.extname, n.nspname, c.cfgname, t.alias, p.maptokentype
    """,
    # Objects that ALTER OPERATOR FAMILY added depend on no extension; those of the script are members, or inside one.
    """
    SELECT m.extname, 'operator family', i.identity,
           concat_ws(E'\\n',
             (SELECT string_agg(concat_ws(' ', amopstrategy, amopopr::regoperator), ',' ORDER BY amopstrategy,
                                amopopr::regoperator::text)
              FROM pg_catalog.pg_amop WHERE amopfamily = m.objid),
             (SELECT string_agg(concat_ws(' ', amprocnum, amproc::regprocedure), ',' ORDER BY amprocnum,
                                amproc::regprocedure::text)
              FROM pg_catalog.pg_amproc WHERE amprocfamily = m.objid)),
           NULL, NULL
    FROM member m CROSS JOIN LATERAL pg_catalog.pg_identify_object(m.classid, m.objid, 0) i
    WHERE m.classid = 'pg_catalog.pg_opfamily'::regclass
    """,
    """
    SELECT r.extname, 'sequence', r.identity,
           concat_ws(' ', q.seqtypid::regtype, q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcache, q.seqcycle,
             CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE r.oid = ANY (e.extconfig))
               THEN pg_catalog.pg_sequence_last_value(r.oid) END),
           array[format('ALTER SEQUENCE %s AS %s INCREMENT %s MINVALUE %s MAXVALUE %s START %s CACHE %s %s CYCLE',
                        r.identity, q.seqtypid::regtype, q.seqincrement, q.seqmin, q.seqmax, q.seqstart, q.seqcache,
                        CASE WHEN q.seqcycle THEN '' ELSE 'NO' END)]
             || CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE r.oid = ANY (e.extconfig))
                  THEN format('SELECT pg_catalog.setval(%L, ', r.identity)
                    || pg_catalog.pg_sequence_last_value(r.oid) || ', true)' END,
           NULL
    FROM relation r JOIN pg_catalog.pg_sequence q ON q.seqrelid = r.oid
    """,
    """
    SELECT r.extname, 'rule', format('%I on %s', w.rulename, r.identity),
           concat_ws(' ', pg_catalog.pg_get_ruledef(w.oid), w.ev_enabled),
           array[pg_catalog.pg_get_ruledef(w.oid)]
             || CASE w.ev_enabled WHEN 'O' THEN NULL ELSE format('ALTER TABLE %s %s RULE %I', r.identity,
                  CASE w.ev_enabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END,
                  w.rulename) END,
           array[format('DROP RULE %I ON %s', w.rulename, r.identity)]
    FROM pg_catalog.pg_rewrite w JOIN relation r ON r.oid = w.ev_class WHERE w.rulename <> '_RETURN'
    """,
    """
    SELECT r.extname, 'policy', format('%I on %s', p.polname, r.identity),
           concat_ws(E'\\n', p.polcmd, p.polpermissive, s.roles, pg_catalog.pg_get_expr(p.polqual, p.polrelid),
                     pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)),
           array[format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, r.identity,
                        CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                        CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                          WHEN 'd' THEN 'DELETE' ELSE 'ALL' END, s.roles)
             || coalesce(' USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')', '')
             || coalesce(' WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')],
           array[format('DROP POLICY %I ON %s', p.polname, r.identity)]
    FROM pg_catalog.pg_policy p JOIN relation r ON r.oid = p.polrelid
    CROSS JOIN LATERAL (
      SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE format('%I', pg_catalog.pg_get_userbyid(role)) END, ', '
                        ORDER BY pg_catalog.pg_get_userbyid(role)) AS roles
      FROM unnest(p.polroles) role) s
    """,
    """
    SELECT r.extname, 'trigger', format('%I on %s', t.tgname, r.identity),
           concat_ws(' ', pg_catalog.pg_get_triggerdef(t.oid), t.tgenabled),
           array[pg_catalog.pg_get_triggerdef(t.oid)]
             || CASE t.tgenabled WHEN 'O' THEN NULL ELSE format('ALTER TABLE %s %s TRIGGER %I', r.identity,
                  CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END,
                  t.tgname) END,
           array[format('DROP TRIGGER %I ON %s', t.tgname, r.identity)]
    FROM pg_catalog.pg_trigger t JOIN relation r ON r.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND t.tgparentid = 0
    """,
    """
    SELECT r.extname, 'publication', format('%s in %I', r.identity, p.pubname),
           concat_ws(' ', c.columns, pg_catalog.pg_get_expr(g.prqual, g.prrelid)),
           array[format('ALTER PUBLICATION %I ADD TABLE ONLY %s', p.pubname, r.identity)
             || coalesce(' (' || c.columns || ')', '')
             || coalesce(' WHERE (' || pg_catalog.pg_get_expr(g.prqual, g.prrelid) || ')', '')],
           array[format('ALTER PUBLICATION %I DROP TABLE ONLY %s', p.pubname, r.identity)]
    FROM pg_catalog.pg_publication_rel g JOIN relation r ON r.oid = g.prrelid
    JOIN pg_catalog.pg_publication p ON p.oid = g.prpubid
    CROSS JOIN LATERAL (
      SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) AS columns FROM pg_catalog.pg_attribute
      WHERE attrelid = r.oid AND attnum = ANY (g.prattrs::int2[])) c
    """,
    # Their options may contain passwords, which few roles may read and no manifest should hold.
    """
    SELECT m.extname, 'user mapping', format('%s on server %I', coalesce(u.usename, 'public'), u.srvname), '',
           NULL, NULL
    FROM member m JOIN pg_catalog.pg_user_mappings u
      ON m.classid = 'pg_catalog.pg_foreign_server'::regclass AND u.srvid = m.objid
    """,
    """
    SELECT m.extname, 'comment', i.type || ' ' || i.identity, d.description,
           array[format('COMMENT ON %s %s IS %L', w.word, i.identity, d.description)],
           array[format('COMMENT ON %s %s IS NULL', w.word, i.identity)]
    FROM member m JOIN pg_catalog.pg_description d ON d.classoid = m.classid AND d.objoid = m.objid
    CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classoid, d.objoid, d.objsubid) i
    CROSS JOIN LATERAL (
      SELECT CASE WHEN d.objsubid <> 0 THEN 'COLUMN' ELSE upper(replace(i.type, '-', ' ')) END AS word) w
    """,
    # Members belong to the creator of the extension, or to the bootstrap superuser if the extension is trusted. The
    # operator creates it again, and must not own what another role had made.
    """
    SELECT m.extname, 'owner', i.type || ' ' || i.identity,
           CASE WHEN o.owner = 10 OR o.owner = m.extowner AND (
                  pg_catalog.pg_get_userbyid(o.owner) = current_user
                  OR (SELECT rolsuper FROM pg_catalog.pg_roles r WHERE r.oid = o.owner))
                THEN '' ELSE pg_catalog.pg_get_userbyid(o.owner)::text END,
           array[format('ALTER %s %s OWNER TO %I', upper(i.type), i.identity, pg_catalog.pg_get_userbyid(o.owner))],
           NULL
    FROM member m JOIN (
      SELECT 'pg_catalog.pg_proc'::regclass AS classid, oid, proowner AS owner FROM pg_catalog.pg_proc
      UNION ALL SELECT 'pg_catalog.pg_class'::regclass, oid, relowner FROM pg_catalog.pg_class WHERE relkind <> 'c'
      UNION ALL SELECT 'pg_catalog.pg_type'::regclass, oid, typowner FROM pg_catalog.pg_type
      UNION ALL SELECT 'pg_catalog.pg_namespace'::regclass, oid, nspowner FROM pg_catalog.pg_namespace
    ) o ON o.classid = m.classid AND o.oid = m.objid
    CROSS JOIN LATERAL pg_catalog.pg_identify_object(m.classid, m.objid, 0) i
    """,
)


def parts(connection: Connection) -> dict[tuple[str, str], Part]:
    """Every part of every extension, by kind and identity, in the order of creation.

    Raises psycopg.Error.
    """
    with connection.transaction():
        connection.execute("SET LOCAL search_path = ''")  # so that names are qualified
        found = [
            Part(extension, kind, identity, definition or "", tuple(filter(None, commands or ())), tuple(removal or ()))
            for query in _QUERIES
            for extension, kind, identity, definition, commands, removal in connection.execute(
                sql.SQL(MEMBERS) + sql.SQL(query)
            )
        ]
    return {(part.kind, part.identity): part for part in sorted(found, key=lambda part: KINDS.index(part.kind))}
