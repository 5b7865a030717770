-- Bring the kept schemas, whose names begin with :kept, back into their place.
SET search_path = '';
CREATE TEMP TABLE coming AS
SELECT n.oid, n.nspname::text AS kept, substr(n.nspname, length(:'kept') + 1) AS name,
       EXISTS (SELECT FROM pg_namespace l WHERE l.nspname = substr(n.nspname, length(:'kept') + 1)) AS stays
FROM pg_namespace n WHERE starts_with(n.nspname, :'kept');
CREATE TEMP TABLE moves AS
SELECT d.classid, d.objid, r.name AS target FROM pg_depend d JOIN pg_temp.coming r ON r.oid = d.refobjid AND r.stays
WHERE d.refclassid = 'pg_namespace'::regclass
  AND d.classid <> ALL (ARRAY['pg_default_acl', 'pg_publication_namespace', 'pg_extension']::regclass[]);
