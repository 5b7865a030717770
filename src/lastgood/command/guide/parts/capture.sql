SELECT jsonb_build_object(
  'objects', (SELECT coalesce(jsonb_agg(to_jsonb(g) ORDER BY g.type, g.owner, g.acl), '[]') FROM (
     SELECT a.type, CASE WHEN t.ours THEN t.owner END AS owner, t.acl,
            jsonb_agg(jsonb_build_array(a.object_names, a.object_args)
                      ORDER BY a.object_names, a.object_args) AS objects
     FROM pg_temp.things t CROSS JOIN pg_identify_object_as_address(t.class, t.oid, t.sub) a GROUP BY 1, 2, 3) g),
  'defaults', (SELECT coalesce(jsonb_agg(to_jsonb(d) ORDER BY d.role, d.schema, d.kind), '[]') FROM pg_temp.defaults d));
