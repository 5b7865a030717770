"""Definitions of types, routines and related objects (casts, operators, collations, text search, languages).

Each query returns kind, identity and definition of the objects of one kind. See ``lastgood.facts.objects`` for the
rules.
"""

from __future__ import annotations

from typing import LiteralString

QUERIES: tuple[LiteralString, ...] = (
    # The constructors of a range type, and its cast to the multirange, are created with the type.
    """
    SELECT CASE p.prokind WHEN 'a' THEN 'aggregate' WHEN 'p' THEN 'procedure' ELSE 'function' END,
           format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.oidvectortypes(p.proargtypes)),
           CASE p.prokind WHEN 'a' THEN
             (SELECT json_build_array(p.prorettype::regtype, pg_catalog.pg_get_function_arguments(p.oid),
                p.proparallel, g.aggkind, nullif(g.aggtransfn, 0)::regprocedure, nullif(g.aggfinalfn, 0)::regprocedure,
                g.aggfinalextra, nullif(g.aggcombinefn, 0)::regprocedure, nullif(g.aggserialfn, 0)::regprocedure,
                nullif(g.aggdeserialfn, 0)::regprocedure, nullif(g.aggmtransfn, 0)::regprocedure,
                nullif(g.aggminvtransfn, 0)::regprocedure, nullif(g.aggmfinalfn, 0)::regprocedure, g.aggmfinalextra,
                g.aggtranstype::regtype, g.aggtransspace, nullif(g.aggmtranstype, 0)::regtype, g.aggmtransspace,
                g.agginitval, g.aggminitval, g.aggfinalmodify, g.aggmfinalmodify,
                nullif(g.aggsortop, 0)::regoperator)::text
              FROM pg_catalog.pg_aggregate g WHERE g.aggfnoid = p.oid)
           ELSE json_build_array(pg_catalog.pg_get_functiondef(p.oid),
             {routine_depends})::text END
    FROM pg_catalog.pg_proc p JOIN user_schema n ON n.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype IN ('e', 'i'))
    """,
    # A domain's NOT NULL has a name since 17; pg_dump writes it since 18. typdefault is not updated after renames, so
    # the stored expression is used.
    """
    SELECT CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END, format('%I.%I', n.nspname, t.typname),
           json_build_array(t.typtype, t.typisdefined,
             (SELECT json_agg(enumlabel ORDER BY enumsortorder) FROM pg_catalog.pg_enum WHERE enumtypid = t.oid),
             (SELECT json_agg(json_build_array(a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
                                               nullif(a.attcollation, 0)::regcollation) ORDER BY a.attnum)
              FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
             (SELECT json_build_array(g.rngsubtype::regtype, nullif(g.rngcollation, 0)::regcollation,
                       (SELECT format('%I.%I', o.opcnamespace::regnamespace, o.opcname)
                        FROM pg_catalog.pg_opclass o WHERE o.oid = g.rngsubopc),
                       nullif(g.rngcanonical, 0)::regprocedure, nullif(g.rngsubdiff, 0)::regprocedure,
                       g.rngmultitypid::regtype)
              FROM pg_catalog.pg_range g WHERE g.rngtypid = t.oid),
             CASE t.typtype WHEN 'b' THEN
               json_build_array(t.typlen, t.typbyval, t.typalign, t.typstorage, t.typcategory, t.typispreferred,
                 t.typdelim, t.typinput, t.typoutput, nullif(t.typreceive, 0)::regproc, nullif(t.typsend, 0)::regproc,
                 nullif(t.typmodin, 0)::regproc, nullif(t.typmodout, 0)::regproc, nullif(t.typanalyze, 0)::regproc,
                 nullif(t.typsubscript, 0)::regproc,
                 nullif(t.typelem, 0)::regtype, t.typcollation <> 0)
             WHEN 'd' THEN
               json_build_array(pg_catalog.format_type(t.typbasetype, t.typtypmod), t.typnotnull,
                 nullif(t.typcollation, 0)::regcollation,
                 (SELECT c.conname FROM pg_catalog.pg_constraint c
                  WHERE c.contypid = t.oid AND c.contype = 'n'
                    AND current_setting('server_version_num')::int >= 180000)) END,
             coalesce(pg_catalog.pg_get_expr(t.typdefaultbin, 0), t.typdefault))::text
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
    SELECT 'cast', format('(%s AS %s)', c.castsource::regtype, c.casttarget::regtype),
           json_build_array(nullif(c.castfunc, 0)::regprocedure, c.castcontext, c.castmethod)::text
    FROM pg_catalog.pg_cast c
    WHERE c.oid >= 16384
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_cast'::regclass AND d.objid = c.oid AND d.deptype IN ('e', 'i'))
    """,
    # An operator that is only named as the commutator or negator of another one has no function; the other one creates
    # it.
    """
    SELECT 'operator', format('%I.%s(%s,%s)', n.nspname, o.oprname,
                              coalesce(nullif(o.oprleft, 0)::regtype::text, 'NONE'), o.oprright::regtype),
           json_build_array(o.oprresult::regtype, o.oprcode::regprocedure, o.oprcanmerge, o.oprcanhash,
             nullif(o.oprcom, 0)::regoperator, nullif(o.oprnegate, 0)::regoperator,
             nullif(o.oprrest, 0)::regprocedure, nullif(o.oprjoin, 0)::regprocedure)::text
    FROM pg_catalog.pg_operator o JOIN user_schema n ON n.oid = o.oprnamespace
    WHERE o.oprcode <> 0
      AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_operator'::regclass AND objid = o.oid)
    """,
    """
    SELECT 'operator class', format('%I.%I using %I', n.nspname, o.opcname, a.amname),
           json_build_array(o.opcintype::regtype, o.opcdefault, nullif(o.opckeytype, 0)::regtype,
             (SELECT format('%I.%I', f.opfnamespace::regnamespace, f.opfname)
              FROM pg_catalog.pg_opfamily f WHERE f.oid = o.opcfamily),
             {class_members})::text
    FROM pg_catalog.pg_opclass o JOIN user_schema n ON n.oid = o.opcnamespace
    JOIN pg_catalog.pg_am a ON a.oid = o.opcmethod
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_opclass'::regclass AND objid = o.oid)
    """,
    """
    SELECT 'operator family', format('%I.%I using %I', n.nspname, f.opfname, a.amname),
           json_build_array({family_members})::text
    FROM pg_catalog.pg_opfamily f JOIN user_schema n ON n.oid = f.opfnamespace
    JOIN pg_catalog.pg_am a ON a.oid = f.opfmethod
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_opfamily'::regclass AND objid = f.oid)
    """,
    # The version (of the library) and the encoding (of the database) are not dumped. The locale has another column
    # since 17; rules exist since 16.
    """
    SELECT 'collation', format('%I.%I', n.nspname, c.collname),
           json_build_array(c.collprovider, c.collisdeterministic, c.collcollate, c.collctype,
             coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale'),
             to_jsonb(c) ->> 'collicurules')::text
    FROM pg_catalog.pg_collation c JOIN user_schema n ON n.oid = c.collnamespace
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_collation'::regclass AND objid = c.oid)
    """,
    """
    SELECT 'conversion', format('%I.%I', n.nspname, c.conname),
           json_build_array(pg_catalog.pg_encoding_to_char(c.conforencoding),
             pg_catalog.pg_encoding_to_char(c.contoencoding), c.conproc, c.condefault)::text
    FROM pg_catalog.pg_conversion c JOIN user_schema n ON n.oid = c.connamespace
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_conversion'::regclass AND objid = c.oid)
    """,
    """
    SELECT 'text search configuration', format('%I.%I', n.nspname, c.cfgname),
           json_build_array(
             (SELECT format('%I.%I', p.prsnamespace::regnamespace, p.prsname)
              FROM pg_catalog.pg_ts_parser p WHERE p.oid = c.cfgparser),
             (SELECT json_agg(json_build_array(m.maptokentype, m.mapdict::regdictionary)
                              ORDER BY m.maptokentype, m.mapseqno)
              FROM pg_catalog.pg_ts_config_map m WHERE m.mapcfg = c.oid))::text
    FROM pg_catalog.pg_ts_config c JOIN user_schema n ON n.oid = c.cfgnamespace
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_ts_config'::regclass AND objid = c.oid)
    """,
    """
    SELECT 'text search dictionary', format('%I.%I', n.nspname, d.dictname),
           json_build_array(
             (SELECT format('%I.%I', t.tmplnamespace::regnamespace, t.tmplname)
              FROM pg_catalog.pg_ts_template t WHERE t.oid = d.dicttemplate),
             d.dictinitoption)::text
    FROM pg_catalog.pg_ts_dict d JOIN user_schema n ON n.oid = d.dictnamespace
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_ts_dict'::regclass AND objid = d.oid)
    """,
    """
    SELECT 'text search parser', format('%I.%I', n.nspname, p.prsname),
           json_build_array(p.prsstart, p.prstoken, p.prsend, nullif(p.prsheadline, 0)::regproc, p.prslextype)::text
    FROM pg_catalog.pg_ts_parser p JOIN user_schema n ON n.oid = p.prsnamespace
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_ts_parser'::regclass AND objid = p.oid)
    """,
    """
    SELECT 'text search template', format('%I.%I', n.nspname, t.tmplname),
           json_build_array(nullif(t.tmplinit, 0)::regproc, t.tmpllexize)::text
    FROM pg_catalog.pg_ts_template t JOIN user_schema n ON n.oid = t.tmplnamespace
    WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_ts_template'::regclass AND objid = t.oid)
    """,
    """
    SELECT 'language', format('%I', l.lanname),
           json_build_array(l.lanpltrusted, nullif(l.lanplcallfoid, 0)::regprocedure,
             nullif(l.laninline, 0)::regprocedure, nullif(l.lanvalidator, 0)::regprocedure)::text
    FROM pg_catalog.pg_language l
    WHERE l.oid >= 16384
      AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_language'::regclass AND objid = l.oid)
    """,
    """
    SELECT 'transform', format('for %s language %I', t.trftype::regtype, l.lanname),
           json_build_array(nullif(t.trffromsql, 0)::regprocedure, nullif(t.trftosql, 0)::regprocedure)::text
    FROM pg_catalog.pg_transform t JOIN pg_catalog.pg_language l ON l.oid = t.trflang
    WHERE t.oid >= 16384
      AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_transform'::regclass AND objid = t.oid)
    """,
    """
    SELECT 'access method', format('%I', a.amname), json_build_array(a.amtype, a.amhandler)::text
    FROM pg_catalog.pg_am a
    WHERE a.oid >= 16384
      AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_catalog.pg_am'::regclass AND objid = a.oid)
    """,
)
