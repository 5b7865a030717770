SELECT format('INSERT INTO pg_temp.found_migration SELECT %I::text FROM %I.%I WHERE true{{where}}
  ORDER BY CASE WHEN %I::text ~ ''^[0-9]+$'' THEN %I::text::numeric ELSE -1 END DESC, %I::text COLLATE "C" DESC LIMIT 1',
  {{columns}})
FROM pg_temp.there t WHERE t.schema_name = {{schema}} AND t.name = {{table}} \gexec
