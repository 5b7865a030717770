-- The properties of the database itself, as statements for the database :named.
SELECT statement || ';' FROM (
  SELECT 1 AS step, format('ALTER DATABASE %I CONNECTION LIMIT %s', :'named', datconnlimit) AS statement
    FROM pg_database WHERE datname = :'live'
  UNION ALL SELECT 2, format('ALTER DATABASE %I IS_TEMPLATE %s', :'named', datistemplate)
    FROM pg_database WHERE datname = :'live' AND datistemplate
  -- A list of names is used as stored, each name quoted separately; any other value is one text.
  UNION ALL SELECT 3, CASE WHEN s.setrole = 0 THEN format('ALTER DATABASE %I', :'named')
                           ELSE format('ALTER ROLE %I IN DATABASE %I', r.rolname, :'named') END
      || format(' SET %s TO ', (SELECT string_agg(quote_ident(part), '.' ORDER BY n)
                                FROM unnest(string_to_array(split_part(c, '=', 1), '.')) WITH ORDINALITY p (part, n)))
      || CASE WHEN lower(split_part(c, '=', 1)) IN ('search_path', 'temp_tablespaces', 'local_preload_libraries',
                'session_preload_libraries', 'shared_preload_libraries', 'unix_socket_directories')
              THEN coalesce(nullif(regexp_replace(substr(c, strpos(c, '=') + 1), '(^|, ?)""(?=,|$)', '\1''''', 'g'), ''), '''''')
              ELSE quote_literal(substr(c, strpos(c, '=') + 1)) END
    FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = :'live'
    LEFT JOIN pg_roles r ON r.oid = s.setrole CROSS JOIN LATERAL unnest(s.setconfig) c
    WHERE s.setrole = 0 OR r.oid IS NOT NULL
  UNION ALL SELECT 4, format('COMMENT ON DATABASE %I IS %L', :'named', shobj_description(oid, 'pg_database'))
    FROM pg_database WHERE datname = :'live'
  UNION ALL SELECT 5, format('ALTER DATABASE %I OWNER TO %I', :'named', pg_get_userbyid(datdba))
    FROM pg_database WHERE datname = :'live'
  UNION ALL SELECT 6, format('REVOKE ALL ON DATABASE %I FROM PUBLIC, %I', :'named', pg_get_userbyid(datdba))
    FROM pg_database WHERE datname = :'live'
  UNION ALL SELECT 7, format('GRANT %s ON DATABASE %I TO %s%s', a.privilege_type, :'named',
                CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(g.rolname) END,
                CASE WHEN a.is_grantable AND a.grantee <> d.datdba THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM pg_database d CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
    LEFT JOIN pg_roles g ON g.oid = a.grantee
    WHERE d.datname = :'live' AND (a.grantee = 0 OR g.oid IS NOT NULL)
) s ORDER BY step, statement;
