-- The schemas of this role that have the application's objects, and the names under which these are kept.
SET search_path = '';
CREATE TEMP TABLE leaving AS
SELECT n.oid, n.nspname::text AS name, :'prefix' || n.nspname AS target,
       -- These keep their place, their privileges and what others made in them; their objects move.
       n.nspowner <> current_user::regrole
         OR EXISTS (SELECT FROM pg_default_acl a WHERE a.defaclnamespace = n.oid AND a.defaclrole <> current_user::regrole)
         OR EXISTS (SELECT FROM pg_depend d JOIN pg_depend e ON (e.classid, e.objid) = (d.classid, d.objid) AND e.deptype = 'e'
                    WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid) AS stays
FROM pg_namespace n
WHERE (n.nspowner = current_user::regrole OR (n.nspname = 'public' AND pg_has_role(n.nspowner, 'USAGE')))
  AND n.nspname !~ '^(pg_|by_hand_)' AND coalesce(obj_description(n.oid, 'pg_namespace'), '') NOT LIKE '{"tool":"lastgood"%';
