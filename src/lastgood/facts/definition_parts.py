"""Parts of definitions that several kinds of objects share, as SQL: members of a ``json_build_array``.

Rare properties are inside a CASE, because there may be tens of thousands of columns.

The queries of ``lastgood.facts.objects`` refer to them in braces, and use these aliases: ``r`` is a relation, ``a`` one
of its columns, ``i`` the pg_index of an index ``r``, ``q`` the pg_sequence of a sequence, ``p`` a routine, ``t`` a
trigger, ``o`` an operator class, ``f`` an operator family.
"""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql


def _depends(catalogue: LiteralString, oid: LiteralString) -> sql.Composed:
    """The extensions that an object depends on by ALTER … DEPENDS ON EXTENSION."""
    return sql.SQL(
        """
        (SELECT json_agg(e.extname ORDER BY e.extname)
         FROM pg_catalog.pg_depend x JOIN pg_catalog.pg_extension e ON e.oid = x.refobjid
         WHERE x.deptype = 'x' AND x.refclassid = 'pg_catalog.pg_extension'::regclass
           AND x.classid = {}::regclass AND x.objid = {})
        """
    ).format(sql.Literal(catalogue), sql.SQL(oid))


def _members(catalogue: LiteralString, oid: LiteralString) -> sql.Composed:
    """Operators and functions of an operator class, or of a family but of none of its classes."""
    return sql.SQL(
        """
        (SELECT json_agg(json_build_array(m.amopstrategy, m.amopopr::regoperator, m.amoppurpose, s.opfname)
                         ORDER BY m.amopstrategy, m.amopopr::regoperator::text COLLATE "C")
         FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_amop m ON m.oid = d.objid
         LEFT JOIN pg_catalog.pg_opfamily s ON s.oid = m.amopsortfamily
         WHERE d.classid = 'pg_catalog.pg_amop'::regclass AND d.refclassid = {owner}::regclass AND d.refobjid = {oid}),
        (SELECT json_agg(json_build_array(m.amprocnum, m.amproc::regprocedure, m.amproclefttype::regtype,
                                          m.amprocrighttype::regtype)
                         ORDER BY m.amprocnum, m.amproc::regprocedure::text COLLATE "C",
                                  m.amproclefttype::regtype::text COLLATE "C",
                                  m.amprocrighttype::regtype::text COLLATE "C")
         FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_amproc m ON m.oid = d.objid
         WHERE d.classid = 'pg_catalog.pg_amproc'::regclass AND d.refclassid = {owner}::regclass
           AND d.refobjid = {oid})
        """
    ).format(owner=sql.Literal(catalogue), oid=sql.SQL(oid))


PARTS: dict[str, sql.Composable] = {
    # Sorted, and without the server's internal options.
    "options": sql.SQL(
        """
        CASE WHEN r.reloptions IS NOT NULL THEN
          (SELECT json_agg(x ORDER BY x COLLATE "C") FROM unnest(r.reloptions) x WHERE x !~ '^pg_') END
        """
    ),
    # A table whose long columns were dropped keeps its TOAST table, whose options pg_dump writes; a restore creates no
    # such table.
    "toast": sql.SQL(
        """
        CASE WHEN r.reltoastrelid <> 0 THEN
          (SELECT (SELECT json_agg(x ORDER BY x COLLATE "C") FROM unnest(s.reloptions) x WHERE x !~ '^pg_')
           FROM pg_catalog.pg_class s
           WHERE s.oid = r.reltoastrelid AND s.reloptions IS NOT NULL AND EXISTS (
             SELECT FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND a.attlen = -1 AND a.atttypmod = -1 AND a.attstorage <> 'p')) END
        """
    ),
    "of_column": sql.SQL(
        """
        a.attstorage, a.attcompression, nullif(a.attstattarget, -1),
        CASE WHEN a.attoptions IS NOT NULL THEN
          (SELECT json_agg(x ORDER BY x COLLATE "C") FROM unnest(a.attoptions) x WHERE x !~ '^pg_') END
        """
    ),
    # Properties that are not in the command that creates an index or its constraint.
    "of_index": sql.SQL(
        """
        i.indisreplident, i.indisclustered, i.indisvalid,
        CASE WHEN r.relispartition THEN
          (SELECT json_agg(h.inhparent::regclass) FROM pg_catalog.pg_inherits h WHERE h.inhrelid = r.oid) END,
        CASE WHEN i.indexprs IS NOT NULL THEN
          (SELECT json_agg(json_build_array(a.attnum, a.attstattarget) ORDER BY a.attnum)
           FROM pg_catalog.pg_attribute a WHERE a.attrelid = r.oid AND a.attstattarget >= 0) END,
        {}
        """
    ).format(_depends("pg_catalog.pg_class", "r.oid")),
    "sequence": sql.SQL("q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcache, q.seqcycle"),
    "view_depends": _depends("pg_catalog.pg_class", "r.oid"),
    "routine_depends": _depends("pg_catalog.pg_proc", "p.oid"),
    "trigger_depends": _depends("pg_catalog.pg_trigger", "t.oid"),
    "class_members": _members("pg_catalog.pg_opclass", "o.oid"),
    "family_members": _members("pg_catalog.pg_opfamily", "f.oid"),
}
