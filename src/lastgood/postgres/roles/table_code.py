"""Tables with definitions that run code when a query over them is planned.

The server evaluates the constant parts of index expressions and predicates, of statistics and of the checks of
children with the rights of the session that asks, whatever the query is. A superuser's session must not ask then. COPY
of a table evaluates none of them.
"""

from __future__ import annotations

from lastgood.postgres.roles.strength import strength
from lastgood.postgres.server import Connection

# Functions in C and those of the server are the server's own code: only a superuser can make them. A definition that
# depends on another function, or on a domain or a composite type that may have checks, counts.
_TABLES = """
WITH RECURSIVE definition (relation, classid, objid) AS (
  SELECT indrelid, 'pg_catalog.pg_class'::pg_catalog.regclass, indexrelid FROM pg_catalog.pg_index
  UNION ALL SELECT stxrelid, 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, oid FROM pg_catalog.pg_statistic_ext
  UNION ALL SELECT conrelid, 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid FROM pg_catalog.pg_constraint
            WHERE contype = 'c' AND conrelid <> 0
  UNION ALL SELECT partrelid, 'pg_catalog.pg_class'::pg_catalog.regclass, partrelid
            FROM pg_catalog.pg_partitioned_table
), function (oid) AS (
  SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
  WHERE p.oid >= 16384 AND l.lanname NOT IN ('internal', 'c')
), code (relation) AS (
  SELECT f.relation FROM definition f JOIN pg_catalog.pg_depend d ON d.classid = f.classid AND d.objid = f.objid
  WHERE d.refobjid >= 16384 AND CASE d.refclassid
    WHEN 'pg_catalog.pg_proc'::pg_catalog.regclass THEN d.refobjid IN (SELECT oid FROM function)
    WHEN 'pg_catalog.pg_operator'::pg_catalog.regclass THEN d.refobjid IN (
      SELECT o.oid FROM pg_catalog.pg_operator o WHERE o.oprcode IN (SELECT oid FROM function)
        OR o.oprrest IN (SELECT oid FROM function))
    WHEN 'pg_catalog.pg_opclass'::pg_catalog.regclass THEN d.refobjid IN (
      SELECT c.oid FROM pg_catalog.pg_opclass c JOIN pg_catalog.pg_amproc a ON a.amprocfamily = c.opcfamily
      WHERE a.amproc IN (SELECT oid FROM function))
    WHEN 'pg_catalog.pg_type'::pg_catalog.regclass THEN d.refobjid IN (
      SELECT t.oid FROM pg_catalog.pg_type t WHERE t.typtype NOT IN ('b', 'e') OR t.typcategory = 'A')
    ELSE false END
  UNION SELECT oid FROM pg_catalog.pg_class WHERE relkind = 'f'
), above (relation) AS (
  SELECT relation FROM code
  UNION SELECT i.inhparent FROM above a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.relation
)
SELECT n.nspname::text, c.relname::text
FROM above a JOIN pg_catalog.pg_class c ON c.oid = a.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
"""
# Values of such types run checks of domains, or casts, when they are compared or copied.
_OF_TYPES = """
SELECT DISTINCT n.nspname::text, c.relname::text
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384
  AND (t.typtype NOT IN ('b', 'e') OR t.typcategory = 'A'
       OR EXISTS (SELECT FROM pg_catalog.pg_cast s JOIN pg_catalog.pg_proc p ON p.oid = s.castfunc
                  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
                  WHERE s.castsource = t.oid AND l.lanname NOT IN ('internal', 'c')))
"""


def with_code_in_types(connection: Connection) -> frozenset[tuple[str, str]]:
    """The tables, by schema and name, with columns whose values may run code in this session; see ``not_to_query``."""
    if not strength(connection):
        return frozenset()
    return frozenset((schema, name) for schema, name in connection.execute(_OF_TYPES))


# What an UPDATE evaluates, also without a matching row. A superuser's function is no code of a weaker role.
_CHANGED = """
WITH function (oid) AS (
  SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
  JOIN pg_catalog.pg_roles r ON r.oid = p.proowner
  WHERE p.oid >= 16384 AND l.lanname NOT IN ('internal', 'c') AND NOT r.rolsuper
), definition (relation, classid, objid) AS (
  SELECT indrelid, 'pg_catalog.pg_class'::pg_catalog.regclass, indexrelid FROM pg_catalog.pg_index
  UNION ALL SELECT stxrelid, 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, oid FROM pg_catalog.pg_statistic_ext
  UNION ALL SELECT conrelid, 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid FROM pg_catalog.pg_constraint
            WHERE contype = 'c' AND conrelid <> 0
  UNION ALL SELECT adrelid, 'pg_catalog.pg_attrdef'::pg_catalog.regclass, oid FROM pg_catalog.pg_attrdef
  UNION ALL SELECT polrelid, 'pg_catalog.pg_policy'::pg_catalog.regclass, oid FROM pg_catalog.pg_policy
  UNION ALL SELECT ev_class, 'pg_catalog.pg_rewrite'::pg_catalog.regclass, oid FROM pg_catalog.pg_rewrite
)
SELECT d.relation::pg_catalog.regclass::text FROM definition d
JOIN pg_catalog.pg_depend e ON e.classid = d.classid AND e.objid = d.objid
LEFT JOIN pg_catalog.pg_operator o
  ON e.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND o.oid = e.refobjid
JOIN function f ON f.oid = CASE e.refclassid WHEN 'pg_catalog.pg_proc'::pg_catalog.regclass THEN e.refobjid
                                             ELSE o.oprcode::pg_catalog.oid END
UNION
SELECT tgrelid::pg_catalog.regclass::text FROM pg_catalog.pg_trigger JOIN function f ON f.oid = tgfoid
WHERE NOT tgisinternal AND tgenabled = ANY (
  CASE pg_catalog.current_setting('session_replication_role') WHEN 'replica' THEN '{A,R}' ELSE '{O,A}' END::"char"[])
UNION
SELECT c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
WHERE c.relkind = 'r' AND NOT r.rolsuper AND c.relowner <> current_user::pg_catalog.regrole
  AND (c.relhasrules OR EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = c.oid AND contype = 'c')
       OR EXISTS (SELECT FROM pg_catalog.pg_policy WHERE polrelid = c.oid))
"""


def not_to_update(connection: Connection) -> frozenset[str]:
    """The tables, in the server's notation, that this session must not update. Those of other roles with rules, checks
    or policies are among them, because these can call any function of the server."""
    return frozenset(table for (table,) in connection.execute(_CHANGED))


def not_to_query(connection: Connection) -> frozenset[tuple[str, str]]:
    """The tables, by schema and name, that this session must not query, only COPY; none if its role has no rights that
    code could use. A definition that is added later is not among them."""
    if not strength(connection):
        return frozenset()
    return frozenset((schema, name) for schema, name in connection.execute(_TABLES))
