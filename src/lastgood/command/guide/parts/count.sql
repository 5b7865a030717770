-- Count what expected.sql lists, in one snapshot. With :prove on, a difference is an error.
SET search_path = '';
SET row_security = off;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, MDY';
SELECT set_config('guide.prove', :'prove', false) a \gset ignored_
{{begin}}
CREATE TEMP TABLE found_rows (schema_name text, table_name text, rows bigint);
CREATE TEMP TABLE found_newest (schema_name text, table_name text, column_name text, newest text);
CREATE TEMP TABLE found_sequences (schema_name text, sequence_name text, last_value bigint, is_called boolean);
CREATE TEMP TABLE found_migration (version text);
CREATE TEMP TABLE there AS SELECT c.oid, n.nspname::text AS schema_name, c.relname::text AS name, c.relkind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace;
SELECT format('INSERT INTO pg_temp.found_rows SELECT %L, %L, count(*) FROM %s %I.%I', t.schema_name, t.name,
              CASE t.relkind WHEN 'p' THEN '' ELSE 'ONLY' END, t.schema_name, t.name)
FROM pg_temp.expected_rows e JOIN pg_temp.there t ON t.schema_name = e.schema_name AND t.name = e.table_name
WHERE t.relkind IN ('r', 'p', 'f') \gexec
SELECT format('INSERT INTO pg_temp.found_newest SELECT %L, %L, %L, (max(%I) FILTER (WHERE isfinite(%I)))::text FROM %s %I.%I',
              t.schema_name, t.name, e.column_name, e.column_name, e.column_name,
              CASE t.relkind WHEN 'p' THEN '' ELSE 'ONLY' END, t.schema_name, t.name)
FROM pg_temp.expected_newest e JOIN pg_temp.there t ON t.schema_name = e.schema_name AND t.name = e.table_name
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = e.column_name AND NOT a.attisdropped
WHERE t.relkind IN ('r', 'p', 'f') \gexec
SELECT format('INSERT INTO pg_temp.found_sequences SELECT %L, %L, last_value, is_called FROM %I.%I',
              t.schema_name, t.name, t.schema_name, t.name)
FROM pg_temp.expected_sequences e JOIN pg_temp.there t ON t.schema_name = e.schema_name AND t.name = e.sequence_name
WHERE t.relkind = 'S' \gexec
{{migration}}
CREATE TEMP TABLE differences AS
SELECT 'rows' AS of, format('%I.%I', e.schema_name, e.table_name) AS what, e.rows::text AS restore_point,
       coalesce(f.rows::text, 'no such table') AS here
FROM pg_temp.expected_rows e LEFT JOIN pg_temp.found_rows f USING (schema_name, table_name)
WHERE e.rows IS DISTINCT FROM f.rows
UNION ALL
SELECT 'newest', format('%I.%I.%I', e.schema_name, e.table_name, e.column_name), e.newest, coalesce(f.newest, 'none')
FROM pg_temp.expected_newest e LEFT JOIN pg_temp.found_newest f USING (schema_name, table_name, column_name)
WHERE e.newest IS DISTINCT FROM f.newest
UNION ALL
SELECT 'sequence', format('%I.%I', e.schema_name, e.sequence_name), format('%s, %s', e.last_value, e.is_called),
       CASE WHEN f.last_value IS NULL THEN 'no such sequence' ELSE format('%s, %s', f.last_value, f.is_called) END
FROM pg_temp.expected_sequences e LEFT JOIN pg_temp.found_sequences f USING (schema_name, sequence_name)
WHERE (e.last_value, e.is_called) IS DISTINCT FROM (f.last_value, f.is_called)
UNION ALL
SELECT 'migration', 'newest version', e.version, coalesce(f.version, 'none')
FROM pg_temp.expected_migration e LEFT JOIN pg_temp.found_migration f ON true WHERE e.version IS DISTINCT FROM f.version
UNION ALL
SELECT 'index', i.indexrelid::regclass::text, 'valid', 'invalid' FROM pg_index i WHERE NOT i.indisvalid
   AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = i.indexrelid AND c.relkind = 'I');
SELECT count(*) AS tables, coalesce(sum(rows), 0) AS rows FROM pg_temp.found_rows;
SELECT format('%I.%I', t.schema_name, t.name) AS not_in_the_restore_point, c.reltuples::bigint AS about_rows
FROM pg_temp.there t JOIN pg_class c ON c.oid = t.oid
WHERE t.relkind = 'r' AND {{counted}}
  AND NOT EXISTS (SELECT FROM pg_temp.expected_rows e WHERE e.schema_name = t.schema_name AND e.table_name = t.name)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = t.oid AND d.deptype = 'e')
ORDER BY 1;
SELECT conrelid::regclass AS table_of, conname AS not_validated_constraint FROM pg_constraint
WHERE NOT convalidated AND contype IN ('f', 'c') ORDER BY 1, 2;
SELECT of, what, restore_point, here FROM pg_temp.differences ORDER BY of = 'rows' DESC, of, what;
DO $$
DECLARE number bigint := (SELECT count(*) FROM pg_temp.differences);
BEGIN
  IF number > 0 AND current_setting('guide.prove') = 'on' THEN
    RAISE EXCEPTION 'cannot continue: % of the figures above differ from those of the restore point', number;
  END IF;
END $$;
{{end}}
