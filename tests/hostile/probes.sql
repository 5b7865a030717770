-- What each construct calls, in a schema of its own. It attacks only in a database that a restore point was restored into:
-- not in its source.
CREATE FUNCTION {home}.try(attack text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE attack;
EXCEPTION WHEN OTHERS THEN
  NULL;
END $$;

-- For each message of the client, the first attempts are enough: rows would repeat them by the hundred.
CREATE FUNCTION {home}.vol(construct text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  message pg_catalog.text := pg_catalog.statement_timestamp()::pg_catalog.text OPERATOR(pg_catalog.||) current_user::pg_catalog.text;
  seen pg_catalog.text := pg_catalog.current_setting('lastgood_test.seen_{id}', true);
BEGIN
  IF pg_catalog.current_database() OPERATOR(pg_catalog.~~) 'source%'
     OR pg_catalog.current_setting('lastgood_test.quiet', true) OPERATOR(pg_catalog.=) 'on'
     OR pg_catalog.current_setting('lastgood_test.inside', true) OPERATOR(pg_catalog.=) 'on'
     OR seen OPERATOR(pg_catalog.=) (message OPERATOR(pg_catalog.||) '...') THEN
    RETURN 1;
  END IF;
  seen := CASE WHEN pg_catalog.starts_with(seen, message) THEN seen ELSE message END OPERATOR(pg_catalog.||) '.';
  PERFORM pg_catalog.set_config('lastgood_test.seen_{id}', seen, false);
  PERFORM pg_catalog.set_config('lastgood_test.inside', 'on', false);
  PERFORM pg_catalog.set_config('search_path', 'hostile, pg_catalog', false);
  PERFORM {home}.try('ALTER ROLE hostile_role SUPERUSER');
  PERFORM {home}.try('CREATE ROLE hostile_made_{id}');
  PERFORM {home}.try('GRANT pg_execute_server_program TO hostile_role');
  PERFORM {home}.try('RESET SESSION AUTHORIZATION');
  PERFORM {home}.try('CREATE ROLE hostile_reset_{id}');
  PERFORM {home}.try('SET SESSION AUTHORIZATION {user}');
  PERFORM {home}.try('CREATE ROLE hostile_reset_{id}');
  PERFORM {home}.try('RESET ROLE');
  PERFORM {home}.try('CREATE ROLE hostile_reset_{id}');
  PERFORM {home}.try('SET ROLE {user}');
  PERFORM {home}.try('CREATE ROLE hostile_reset_{id}');
  PERFORM {home}.try('ALTER ROLE {user} SET lastgood_test.made_by = ''{id}''');
  PERFORM {home}.try('COPY (SELECT 1) TO PROGRAM ''cat > {folder}/program_by_copy_{id}''');
  PERFORM {home}.try('COPY (SELECT 1) TO ''{folder}/file_by_copy_{id}''');
  PERFORM {home}.try('SELECT lo_export(lo_from_bytea(0, ''x''), ''{folder}/file_by_lo_export_{id}'')');
  PERFORM {home}.try('ALTER SYSTEM SET log_statement = ''all''');
  PERFORM {home}.try('COMMENT ON DATABASE ' OPERATOR(pg_catalog.||)
                     pg_catalog.quote_ident(pg_catalog.current_database()) OPERATOR(pg_catalog.||)
                     ' IS ''forged by {id}''');
  PERFORM {home}.try('ALTER DATABASE {live} SET work_mem = ''123kB''');
  PERFORM {home}.try('SELECT public.dblink_exec(''dbname={live} host={server} port=5432 user={user}'','
                     ' ''CREATE TABLE public.by_dblink_{id} ()'')');
-- In the new database, which fails its proof if these succeed.
{inside}
  PERFORM pg_catalog.set_config('lastgood_test.inside', 'off', false);
  RETURN 1;
END $$;

-- IMMUTABLE is no barrier.
CREATE FUNCTION {home}.imm(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  PERFORM {home}.vol('immutable');
  RETURN i;
END $$;

CREATE FUNCTION {home}.imt(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  PERFORM {home}.vol('immutable');
  RETURN t;
END $$;
