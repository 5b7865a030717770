-- The properties of the database itself, one line for each; no dump without --create holds them.

-- chunk: owner, limit, comment
SELECT unnest(ARRAY['database owner ' || datdba::regrole, 'database connection limit ' || datconnlimit,
                    'database comment ' || coalesce(shobj_description(oid, 'pg_database'), '(none)')])
FROM pg_catalog.pg_database WHERE datname = current_database()

-- chunk: grants
SELECT concat_ws(' ', 'database grant', CASE e.grantee WHEN 0 THEN 'PUBLIC' ELSE e.grantee::regrole::text END,
                 e.privilege_type)
FROM pg_catalog.pg_database d CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) e
WHERE d.datname = current_database()

-- chunk: settings
SELECT concat_ws(' ', 'database setting', CASE s.setrole WHEN 0 THEN 'all' ELSE s.setrole::regrole::text END, c)
FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
CROSS JOIN LATERAL unnest(s.setconfig) c WHERE d.datname = current_database()
