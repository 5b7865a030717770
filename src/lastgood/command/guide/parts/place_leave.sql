-- Cut what binds these schemas to the rest, and move their objects to schemas whose names begin with :prefix.
SET LOCAL lock_timeout = '5s';
CREATE TEMP TABLE inside AS
SELECT d.classid, d.objid, l.name, l.target, l.stays FROM pg_depend d JOIN pg_temp.leaving l ON l.oid = d.refobjid
WHERE d.refclassid = 'pg_namespace'::regclass
  AND d.classid <> ALL (ARRAY['pg_default_acl', 'pg_publication_namespace', 'pg_extension']::regclass[])
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE (e.classid, e.objid) = (d.classid, d.objid) AND e.deptype = 'e');
DO $$
DECLARE reason text;
BEGIN
  -- The prefix of an undo is two bytes longer.
  SELECT string_agg(x, '; ') INTO reason FROM (
    SELECT format('schema %I has too long a name', l.name) FROM pg_temp.leaving l
    WHERE octet_length(l.target) > CASE WHEN starts_with(l.target, 'by_hand_kept_') THEN 61 ELSE 63 END
    UNION ALL SELECT format('publication %I publishes a whole schema', p.pubname)
    FROM pg_publication_namespace m JOIN pg_publication p ON p.oid = m.pnpubid JOIN pg_temp.leaving l ON l.oid = m.pnnspid
    UNION ALL SELECT format('event trigger %I calls a function of these schemas', t.evtname)
    FROM pg_event_trigger t JOIN pg_temp.inside i ON i.classid = 'pg_proc'::regclass AND i.objid = t.evtfoid
    UNION ALL SELECT format('schema %I exists; export another RUN and paste Names again', l.target)
    FROM pg_temp.leaving l JOIN pg_namespace n ON n.nspname = l.target) reasons (x);
  IF reason IS NOT NULL THEN RAISE EXCEPTION 'cannot switch by hand: %', reason; END IF;
END $$;

-- The tables of the platform first: a sign-up locks them in this order too.
SELECT format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', t.oid::regclass) FROM (
  SELECT confrelid FROM pg_constraint c JOIN pg_temp.inside i ON i.objid = c.conrelid AND i.classid = 'pg_class'::regclass
  WHERE c.contype = 'f'
  UNION SELECT tgrelid FROM pg_trigger t JOIN pg_temp.inside i ON i.objid = t.tgfoid AND i.classid = 'pg_proc'::regclass
  UNION SELECT p.polrelid FROM pg_policy p JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
    JOIN pg_temp.inside i ON (i.classid, i.objid) = (d.refclassid, d.refobjid)) t (oid)
WHERE t.oid NOT IN (SELECT objid FROM pg_temp.inside) ORDER BY 1 \gexec
SELECT format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', c.oid::regclass)
FROM pg_temp.inside i JOIN pg_class c ON i.classid = 'pg_class'::regclass AND c.oid = i.objid
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1 \gexec

-- Foreign keys to the platform would delete kept rows, or keep the platform from deleting its own.
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', c.conrelid::regclass, c.conname)
FROM pg_constraint c JOIN pg_temp.inside i ON i.classid = 'pg_class'::regclass AND i.objid = c.conrelid
WHERE c.contype = 'f' AND c.conparentid = 0 AND c.confrelid NOT IN (SELECT objid FROM pg_temp.inside) ORDER BY 1 \gexec
SELECT DISTINCT format('DROP POLICY %I ON %s', p.polname, p.polrelid::regclass)
FROM pg_policy p JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
JOIN pg_temp.inside i ON (i.classid, i.objid) = (d.refclassid, d.refobjid)
WHERE p.polrelid NOT IN (SELECT objid FROM pg_temp.inside) \gexec
SELECT format('ALTER PUBLICATION %I DROP TABLE %s', p.pubname, m.prrelid::regclass)
FROM pg_publication_rel m JOIN pg_publication p ON p.oid = m.prpubid
JOIN pg_temp.inside i ON i.classid = 'pg_class'::regclass AND i.objid = m.prrelid \gexec
SELECT format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I REVOKE ALL ON %s FROM %s', l.name,
              CASE a.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' ELSE 'TYPES' END,
              CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END)
FROM pg_temp.leaving l JOIN pg_default_acl a ON a.defaclnamespace = l.oid AND a.defaclrole = current_user::regrole
CROSS JOIN LATERAL (SELECT DISTINCT grantee FROM aclexplode(a.defaclacl)) g WHERE l.stays \gexec

SELECT format(CASE WHEN stays THEN 'CREATE SCHEMA %2$I' ELSE 'ALTER SCHEMA %1$I RENAME TO %2$I' END, name, target)
FROM pg_temp.leaving \gexec
CREATE TEMP TABLE moves AS SELECT classid, objid, target FROM pg_temp.inside WHERE stays;
