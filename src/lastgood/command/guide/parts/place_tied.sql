-- After the ties are made again, nothing else may depend on what was moved away to schemas that begin with :prefix.
SET search_path = '';
SELECT format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass)
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace f ON f.oid = p.pronamespace
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE starts_with(f.nspname, :'prefix') AND NOT starts_with(n.nspname, :'prefix') \gexec
-- Subscribers of the platform's change feed follow the tables.
SELECT format('UPDATE realtime.subscription s SET entity = l.oid '
              'FROM pg_class k JOIN pg_namespace kn ON kn.oid = k.relnamespace, '
              'pg_class l JOIN pg_namespace ln ON ln.oid = l.relnamespace WHERE s.entity = k.oid AND starts_with(kn.nspname, %1$L) '
              'AND ln.nspname = substr(kn.nspname, length(%1$L) + 1) AND l.relname = k.relname', :'prefix')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'realtime' AND c.relname = 'subscription' AND has_table_privilege(c.oid, 'UPDATE') \gexec
SELECT set_config('guide.prefix', :'prefix', false) a \gset ignored_
DO $$
DECLARE bound text;
BEGIN
  SELECT string_agg(DISTINCT t.identity, ', ') INTO bound
  FROM pg_depend d CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) t
  CROSS JOIN LATERAL pg_identify_object(d.refclassid, d.refobjid, 0) o
  WHERE d.classid <> 0 AND d.refclassid <> 0 AND strpos(o.identity, current_setting('guide.prefix')) > 0
    AND strpos(t.identity, current_setting('guide.prefix')) = 0 AND t.identity NOT LIKE 'pg_toast.%'
    AND d.classid <> 'pg_default_acl'::regclass;
  IF bound IS NOT NULL THEN
    RAISE EXCEPTION 'cannot switch by hand: these objects would depend on replaced ones: %', bound;
  END IF;
END $$;
