-- Set the owners and grants to those in privileges.live, or in privileges.guide where privileges.live lacks the object.
\set saved_live `cat "$WORK/privileges.live"`
\set saved_guide `cat "$WORK/privileges.guide"`
-- Event triggers must not fire now; only a superuser can prevent that.
SELECT count(set_config('session_replication_role', 'replica', false)) AS quiet
FROM pg_roles WHERE rolname = current_user AND rolsuper \gset ignored_
CREATE FUNCTION pg_temp.address(type text, names text[], args text[], OUT class oid, OUT oid oid, OUT sub int)
LANGUAGE plpgsql AS $$
BEGIN
  SELECT a.classid, a.objid, a.objsubid INTO class, oid, sub
  FROM pg_get_object_address(CASE WHEN type LIKE '% column' THEN 'table column' ELSE type END, names, args) a;
EXCEPTION WHEN OTHERS THEN NULL;  -- the restore point does not have it
END $$;
CREATE TEMP TABLE wanted AS
SELECT w.*, a.class, a.oid, a.sub
FROM (SELECT DISTINCT ON (type, names, args) type, owner, acl, names, args
      FROM (VALUES (1, :'saved_live'::jsonb), (2, :'saved_guide'::jsonb)) s (rank, saved)
      CROSS JOIN jsonb_to_recordset(s.saved -> 'objects') AS w (type text, owner text, acl jsonb, objects jsonb)
      CROSS JOIN jsonb_array_elements(w.objects) o
      CROSS JOIN LATERAL (SELECT ARRAY(SELECT jsonb_array_elements_text(o -> 0)) AS names,
                                 ARRAY(SELECT jsonb_array_elements_text(o -> 1)) AS args) n
      ORDER BY type, names, args, rank) w
CROSS JOIN LATERAL pg_temp.address(w.type, w.names, w.args) a WHERE a.oid IS NOT NULL;
CREATE TEMP TABLE wanted_defaults AS
SELECT * FROM jsonb_to_recordset((:'saved_live'::jsonb) -> 'defaults') AS w (role text, schema text, kind text, acl jsonb);
DO $$
DECLARE w record; g jsonb; present jsonb; who text; what text; word text; col text; before text;
BEGIN
  -- Change the owner of a schema after that of its objects; a sequence owned by a table follows the table.
  FOR w IN SELECT * FROM pg_temp.wanted WHERE owner IS NOT NULL AND sub = 0
           ORDER BY type = 'schema', type = 'sequence', type, names LOOP
    IF w.owner <> (SELECT pg_get_userbyid(r.owner) FROM pg_temp.raw r WHERE r.class = w.class AND r.oid = w.oid AND r.sub = 0)
    THEN
      EXECUTE format('ALTER %s %s OWNER TO %I',
        CASE WHEN w.type IN ('function', 'procedure', 'aggregate') THEN 'ROUTINE'
             WHEN w.type = 'statistics object' THEN 'STATISTICS' ELSE upper(replace(w.type, '-', ' ')) END,
        (SELECT identity FROM pg_identify_object(w.class, w.oid, 0)), w.owner);
    END IF;
  END LOOP;
  -- Grants: revoke all existing ones, then grant the wanted ones, first those of the owner, then those of others.
  FOR w IN SELECT * FROM pg_temp.wanted WHERE acl IS NOT NULL ORDER BY type <> 'schema', sub > 0, type, names LOOP
    SELECT coalesce((SELECT acl FROM pg_temp.things t WHERE t.class = w.class AND t.oid = w.oid AND t.sub = w.sub), '[]')
    INTO present;
    CONTINUE WHEN present = w.acl;
    col := CASE WHEN w.sub > 0 THEN format(' (%I)', w.names[3]) ELSE '' END;
    what := CASE WHEN w.sub > 0 OR w.type IN ('table', 'view', 'materialized view', 'foreign table') THEN 'TABLE'
                 WHEN w.type IN ('function', 'procedure', 'aggregate') THEN 'ROUTINE'
                 WHEN w.type = 'server' THEN 'FOREIGN SERVER' ELSE upper(replace(w.type, '-', ' ')) END
      || ' ' || (SELECT identity FROM pg_identify_object(w.class, w.oid, 0));
    FOR who IN SELECT DISTINCT CASE grantee WHEN '' THEN 'PUBLIC' ELSE quote_ident(grantee) END
               FROM (SELECT coalesce(e ->> 1, (SELECT pg_get_userbyid(r.owner) FROM pg_temp.raw r
                       WHERE r.class = w.class AND r.oid = w.oid AND r.sub = w.sub)) AS grantee
                     FROM jsonb_array_elements(present) e
                     UNION SELECT '' WHERE w.sub = 0) p WHERE grantee IS NOT NULL LOOP
      EXECUTE format('REVOKE ALL%s ON %s FROM %s CASCADE', col, what, who);
    END LOOP;
    FOR g IN SELECT e FROM jsonb_array_elements(w.acl) WITH ORDINALITY x (e, n) ORDER BY e ->> 0 IS NOT NULL,
             (e ->> 3)::boolean DESC, n LOOP
      IF g ->> 0 IS NOT NULL THEN EXECUTE format('SET ROLE %I', g ->> 0); END IF;
      EXECUTE format('GRANT %s%s ON %s TO %s%s', g ->> 2, col, what,
        CASE WHEN g ->> 1 = '' THEN 'PUBLIC'
             ELSE quote_ident(coalesce(g ->> 1, (SELECT pg_get_userbyid(r.owner) FROM pg_temp.raw r
                    WHERE r.class = w.class AND r.oid = w.oid AND r.sub = 0))) END,
        CASE WHEN (g ->> 3)::boolean AND g ->> 1 IS NOT NULL THEN ' WITH GRANT OPTION' ELSE '' END);
      IF g ->> 0 IS NOT NULL THEN RESET ROLE; END IF;
    END LOOP;
  END LOOP;
  -- Default privileges.
  FOR w IN SELECT d.*, p.acl AS present FROM pg_temp.wanted_defaults d LEFT JOIN pg_temp.defaults p
             ON p.role = d.role AND p.schema IS NOT DISTINCT FROM d.schema AND p.kind = d.kind
           WHERE d.schema IS NULL OR EXISTS (SELECT FROM pg_namespace WHERE nspname = d.schema) LOOP
    CONTINUE WHEN w.present = w.acl;
    before := format('ALTER DEFAULT PRIVILEGES FOR ROLE %I', w.role)
      || CASE WHEN w.schema IS NULL THEN '' ELSE format(' IN SCHEMA %I', w.schema) END;
    word := CASE w.kind WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES' WHEN 'T' THEN 'TYPES'
                        WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END;
    FOR who IN SELECT DISTINCT CASE g2 WHEN '' THEN 'PUBLIC' ELSE quote_ident(g2) END
               FROM (SELECT coalesce(e ->> 1, w.role) AS g2 FROM jsonb_array_elements(coalesce(w.present, '[]')) e
                     UNION SELECT '' UNION SELECT w.role) p LOOP
      EXECUTE format('%s REVOKE ALL ON %s FROM %s', before, word, who);
    END LOOP;
    FOR g IN SELECT jsonb_array_elements(w.acl) LOOP
      EXECUTE format('%s GRANT %s ON %s TO %s%s', before, g ->> 2, word,
        CASE WHEN g ->> 1 = '' THEN 'PUBLIC' ELSE quote_ident(coalesce(g ->> 1, w.role)) END,
        CASE WHEN (g ->> 3)::boolean AND g ->> 1 IS NOT NULL THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
  END LOOP;
  -- A SECURITY DEFINER function with unknown grants is left to its owner alone.
  FOR what IN SELECT i.identity FROM pg_proc p JOIN pg_temp.things t ON t.class = 'pg_proc'::regclass AND t.oid = p.oid
              CROSS JOIN pg_identify_object(t.class, t.oid, 0) i WHERE p.prosecdef AND t.ours
                AND NOT EXISTS (SELECT FROM pg_temp.wanted x WHERE x.class = t.class AND x.oid = t.oid) LOOP
    EXECUTE format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', what);
  END LOOP;
END $$;
-- Proof: read everything again and compare.
CREATE TEMP TABLE not_as_wanted AS
SELECT i.type, i.identity, w.owner AS wanted_owner, t.owner, w.acl AS wanted_grants, t.acl AS grants
FROM pg_temp.wanted w JOIN pg_temp.things t ON t.class = w.class AND t.oid = w.oid AND t.sub = w.sub
CROSS JOIN pg_identify_object(t.class, t.oid, t.sub) i
WHERE (w.owner IS NOT NULL AND t.owner <> w.owner)
   OR (SELECT array_agg(e ORDER BY e) FROM jsonb_array_elements(w.acl) e)
      IS DISTINCT FROM (SELECT array_agg(e ORDER BY e) FROM jsonb_array_elements(t.acl) e);
TABLE pg_temp.not_as_wanted;
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_temp.not_as_wanted) THEN
    RAISE EXCEPTION 'cannot continue: the owners or grants above could not be restored';
  END IF;
END $$;
SELECT i.type, i.identity AS only_in_the_restore_point, t.owner AS owner_now
FROM pg_temp.things t CROSS JOIN pg_identify_object(t.class, t.oid, t.sub) i
WHERE t.ours AND t.sub = 0 AND NOT EXISTS (SELECT FROM pg_temp.wanted x WHERE x.class = t.class AND x.oid = t.oid);
