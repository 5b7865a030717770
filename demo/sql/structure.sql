-- The structure of a database, one line for each object. A missing ACL means the default one, and an ACL has no order:
-- both are spelled out. Each -- chunk is a query with one column.

-- chunk: relations
SELECT concat_ws(' ', 'relation', c.oid::regclass, c.relkind, 'owner', c.relowner::regrole, 'rls', c.relrowsecurity,
                 c.relforcerowsecurity, c.reloptions, 'acl', a.acl)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT string_agg(concat_ws('/', e.grantor::regrole,
                                CASE e.grantee WHEN 0 THEN 'PUBLIC' ELSE e.grantee::regrole::text END,
                                e.privilege_type, e.is_grantable), ','
                      ORDER BY e.grantor::regrole::text, e.grantee::regrole::text, e.privilege_type) AS acl
    FROM aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) e) a
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'

-- chunk: columns
SELECT concat_ws(' ', 'column', c.oid::regclass, row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname,
                 format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attacl,
                 pg_get_expr(d.adbin, d.adrelid))
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm')
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'

-- chunk: constraints
SELECT concat_ws(' ', 'constraint', coalesce(nullif(conrelid, 0)::regclass::text, contypid::regtype::text), conname,
                 pg_get_constraintdef(c.oid), convalidated)
FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'

-- chunk: indexes
SELECT concat_ws(' ', 'index', pg_get_indexdef(i.indexrelid), i.indisvalid)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_'

-- chunk: triggers
SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(oid), tgenabled) FROM pg_catalog.pg_trigger WHERE NOT tgisinternal

-- chunk: policies
SELECT concat_ws(' ', 'policy', schemaname, tablename, policyname, permissive, roles, cmd, qual, with_check)
FROM pg_catalog.pg_policies

-- chunk: views
SELECT concat_ws(' ', 'view', c.oid::regclass, pg_get_viewdef(c.oid))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'

-- chunk: functions
SELECT concat_ws(' ', 'function', p.oid::regprocedure, 'owner', p.proowner::regrole, 'definer', p.prosecdef, p.proconfig,
                 md5(p.prosrc), 'acl', a.acl)
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
CROSS JOIN LATERAL (
    SELECT string_agg(concat_ws('/', CASE e.grantee WHEN 0 THEN 'PUBLIC' ELSE e.grantee::regrole::text END,
                                e.privilege_type), ',' ORDER BY e.grantee::regrole::text, e.privilege_type) AS acl
    FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) e) a
WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'

-- chunk: schemas
SELECT concat_ws(' ', 'schema', n.nspname, 'owner', n.nspowner::regrole, 'acl', a.acl)
FROM pg_catalog.pg_namespace n
CROSS JOIN LATERAL (
    SELECT string_agg(concat_ws('/', CASE e.grantee WHEN 0 THEN 'PUBLIC' ELSE e.grantee::regrole::text END,
                                e.privilege_type), ',' ORDER BY e.grantee::regrole::text, e.privilege_type) AS acl
    FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) e) a
WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'

-- chunk: types
SELECT concat_ws(' ', 'type', t.oid::regtype, 'owner', t.typowner::regrole,
                 (SELECT string_agg(quote_literal(enumlabel), ',' ORDER BY enumsortorder)
                  FROM pg_catalog.pg_enum WHERE enumtypid = t.oid))
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype IN ('e', 'd') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'

-- chunk: default privileges
SELECT concat_ws(' ', 'default privileges', defaclrole::regrole, nullif(defaclnamespace, 0)::regnamespace, defaclobjtype,
                 (SELECT string_agg(x::text, ',' ORDER BY x::text) FROM unnest(defaclacl) x))
FROM pg_catalog.pg_default_acl

-- chunk: comments
SELECT concat_ws(' ', 'comment', pg_describe_object(classoid, objoid, objsubid), description)
FROM pg_catalog.pg_description WHERE objoid >= 16384
