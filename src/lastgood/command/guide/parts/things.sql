-- Everything with an owner or with grants. An ACL is listed in full, the owner as null, PUBLIC as "".
SET search_path = '';
CREATE TEMP VIEW raw AS
SELECT 'pg_class'::regclass::oid AS class, oid, 0 AS sub, relowner AS owner,
       coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)) AS acl
  FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'
UNION ALL SELECT 'pg_class'::regclass, c.oid, a.attnum, c.relowner, a.attacl
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE a.attacl IS NOT NULL AND NOT a.attisdropped
UNION ALL SELECT 'pg_proc'::regclass, oid, 0, proowner, coalesce(proacl, acldefault('f', proowner))
  FROM pg_proc WHERE pronamespace <> pg_my_temp_schema()
UNION ALL SELECT 'pg_type'::regclass, t.oid, 0, t.typowner, coalesce(t.typacl, acldefault('T', t.typowner))
  FROM pg_type t WHERE t.typisdefined AND t.typtype <> 'm' AND t.typnamespace <> pg_my_temp_schema()
   AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
   AND (t.typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
UNION ALL SELECT 'pg_namespace'::regclass, oid, 0, nspowner, coalesce(nspacl, acldefault('n', nspowner))
  FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)'
UNION ALL SELECT 'pg_language'::regclass, oid, 0, lanowner, coalesce(lanacl, acldefault('l', lanowner)) FROM pg_language
UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, 0, fdwowner, coalesce(fdwacl, acldefault('F', fdwowner))
  FROM pg_foreign_data_wrapper
UNION ALL SELECT 'pg_foreign_server'::regclass, oid, 0, srvowner, coalesce(srvacl, acldefault('S', srvowner))
  FROM pg_foreign_server
UNION ALL SELECT 'pg_largeobject'::regclass, oid, 0, lomowner, coalesce(lomacl, acldefault('L', lomowner))
  FROM pg_largeobject_metadata
UNION ALL SELECT 'pg_event_trigger'::regclass, oid, 0, evtowner, NULL FROM pg_event_trigger
UNION ALL SELECT 'pg_publication'::regclass, oid, 0, pubowner, NULL FROM pg_publication
UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, 0, stxowner, NULL FROM pg_statistic_ext
UNION ALL SELECT 'pg_collation'::regclass, oid, 0, collowner, NULL FROM pg_collation
UNION ALL SELECT 'pg_conversion'::regclass, oid, 0, conowner, NULL FROM pg_conversion
UNION ALL SELECT 'pg_operator'::regclass, oid, 0, oprowner, NULL FROM pg_operator
UNION ALL SELECT 'pg_opclass'::regclass, oid, 0, opcowner, NULL FROM pg_opclass
UNION ALL SELECT 'pg_opfamily'::regclass, oid, 0, opfowner, NULL FROM pg_opfamily
UNION ALL SELECT 'pg_ts_dict'::regclass, oid, 0, dictowner, NULL FROM pg_ts_dict
UNION ALL SELECT 'pg_ts_config'::regclass, oid, 0, cfgowner, NULL FROM pg_ts_config;
CREATE TEMP VIEW things AS
SELECT r.class, r.oid, r.sub, pg_get_userbyid(r.owner)::text AS owner, o.ours,
       CASE WHEN r.acl IS NOT NULL THEN coalesce((
         SELECT jsonb_agg(jsonb_build_array(
                  CASE WHEN x.grantor <> r.owner THEN pg_get_userbyid(x.grantor) END,
                  CASE x.grantee WHEN r.owner THEN NULL WHEN 0 THEN '' ELSE pg_get_userbyid(x.grantee) END,
                  x.privilege_type, x.is_grantable)
                ORDER BY x.grantor <> r.owner, pg_get_userbyid(x.grantor), x.grantee = r.owner DESC,
                         pg_get_userbyid(x.grantee), x.privilege_type)
         FROM aclexplode(r.acl) x WHERE x.grantee = 0 OR x.grantee IN (SELECT a.oid FROM pg_roles a)), '[]') END AS acl
FROM pg_temp.raw r
LEFT JOIN pg_init_privs i ON i.classoid = r.class AND i.objoid = r.oid AND i.objsubid = r.sub
CROSS JOIN LATERAL (SELECT (r.oid >= 16384 OR r.class = 'pg_largeobject'::regclass
                            OR (r.class = 'pg_namespace'::regclass AND r.oid = to_regnamespace('public')::oid))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = r.class AND d.objid = r.oid AND d.objsubid = 0
                    AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e') AS ours) o
-- Of objects of the system and of extensions, only those with changed grants, and only the grants.
WHERE o.ours OR (r.acl IS NOT NULL AND r.acl IS DISTINCT FROM coalesce(i.initprivs, CASE r.class
  WHEN 'pg_class'::regclass THEN (SELECT acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", r.owner)
                                  FROM pg_class WHERE oid = r.oid AND r.sub = 0)
  WHEN 'pg_proc'::regclass THEN acldefault('f', r.owner) WHEN 'pg_type'::regclass THEN acldefault('T', r.owner)
  WHEN 'pg_namespace'::regclass THEN acldefault('n', r.owner) WHEN 'pg_language'::regclass THEN acldefault('l', r.owner)
  WHEN 'pg_foreign_data_wrapper'::regclass THEN acldefault('F', r.owner)
  WHEN 'pg_foreign_server'::regclass THEN acldefault('S', r.owner) END));
CREATE TEMP VIEW defaults AS
SELECT pg_get_userbyid(d.defaclrole)::text AS role, n.nspname::text AS schema, d.defaclobjtype::text AS kind,
       coalesce((SELECT jsonb_agg(jsonb_build_array(NULL,
                          CASE x.grantee WHEN d.defaclrole THEN NULL WHEN 0 THEN '' ELSE pg_get_userbyid(x.grantee) END,
                          x.privilege_type, x.is_grantable)
                        ORDER BY x.grantee = d.defaclrole DESC, pg_get_userbyid(x.grantee), x.privilege_type)
                 FROM aclexplode(d.defaclacl) x), '[]') AS acl
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace;
