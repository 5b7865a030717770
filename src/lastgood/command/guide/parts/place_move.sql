-- Move the objects that the table moves lists. Functions go before the types in their names.
SELECT format('ALTER %s %s SET SCHEMA %I', k.words, i.identity, m.target)
FROM pg_temp.moves m JOIN (VALUES
  (1, 'pg_proc', 'ROUTINE'), (2, 'pg_operator', 'OPERATOR'), (3, 'pg_opclass', 'OPERATOR CLASS'),
  (4, 'pg_opfamily', 'OPERATOR FAMILY'), (5, 'pg_class', 'TABLE'), (6, 'pg_type', 'TYPE'),
  (7, 'pg_statistic_ext', 'STATISTICS'), (8, 'pg_collation', 'COLLATION'), (9, 'pg_conversion', 'CONVERSION'),
  (10, 'pg_ts_dict', 'TEXT SEARCH DICTIONARY'), (11, 'pg_ts_config', 'TEXT SEARCH CONFIGURATION'))
  k (rank, catalogue, words) ON m.classid = k.catalogue::regclass
CROSS JOIN LATERAL pg_identify_object(m.classid, m.objid, 0) i
WHERE NOT EXISTS (SELECT FROM pg_depend o WHERE (o.classid, o.objid) = (m.classid, m.objid) AND m.classid = 'pg_class'::regclass
                  AND o.refclassid = 'pg_class'::regclass AND o.refobjsubid > 0 AND o.deptype IN ('a', 'i')
                  AND EXISTS (SELECT FROM pg_class s WHERE s.oid = m.objid AND s.relkind = 'S'))
ORDER BY k.rank, 1 \gexec
DROP TABLE pg_temp.moves;
