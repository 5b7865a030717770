-- What each construct calls. It attacks only in a database that a restore point was restored into: not in its source.
CREATE FUNCTION public.try(attack text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE attack;
EXCEPTION WHEN OTHERS THEN
  NULL;
END $$;

CREATE FUNCTION public.vol(construct text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
  IF pg_catalog.current_database() OPERATOR(pg_catalog.~~) 'source%'
     OR pg_catalog.current_setting('lastgood_test.quiet', true) OPERATOR(pg_catalog.=) 'on'
     OR pg_catalog.current_setting('lastgood_test.inside', true) OPERATOR(pg_catalog.=) 'on' THEN
    RETURN 1;
  END IF;
  PERFORM pg_catalog.set_config('lastgood_test.inside', 'on', false);
  PERFORM set_config('search_path', 'hostile, pg_catalog', false);
  PERFORM public.try('ALTER ROLE hostile_role SUPERUSER');
  PERFORM public.try('CREATE ROLE hostile_made');
  PERFORM public.try('GRANT pg_execute_server_program TO hostile_role');
  PERFORM public.try('RESET SESSION AUTHORIZATION');
  PERFORM public.try('ALTER ROLE hostile_reset SUPERUSER');
  PERFORM public.try('SET SESSION AUTHORIZATION postgres');
  PERFORM public.try('ALTER ROLE hostile_reset SUPERUSER');
  PERFORM public.try('RESET ROLE');
  PERFORM public.try('ALTER ROLE hostile_reset SUPERUSER');
  PERFORM public.try('SET ROLE postgres');
  PERFORM public.try('ALTER ROLE hostile_reset SUPERUSER');
  PERFORM public.try('COPY (SELECT 1) TO PROGRAM ''cat > {folder}/program_by_copy''');
  PERFORM public.try('COPY (SELECT 1) TO ''{folder}/file_by_copy''');
  PERFORM public.try('SELECT lo_export(lo_from_bytea(0, ''x''), ''{folder}/file_by_lo_export'')');
  PERFORM public.try('CREATE TABLE public.read_file AS SELECT pg_read_file(''postgresql.conf'') AS t');
  PERFORM public.try('ALTER SYSTEM SET log_statement = ''all''');
  PERFORM public.try('COMMENT ON DATABASE ' || quote_ident(current_database()) || ' IS ''forged''');
  PERFORM public.try('ALTER DATABASE {live} SET work_mem = ''123kB''');
  PERFORM public.try('CREATE FUNCTION public.gift() RETURNS int LANGUAGE sql SECURITY DEFINER AS ''SELECT 1''');
  PERFORM public.try('ALTER FUNCTION public.gift() OWNER TO postgres');
  PERFORM public.try('CREATE OR REPLACE FUNCTION public.honest() RETURNS text LANGUAGE sql SECURITY DEFINER'
                     ' AS ''SELECT ''''replaced''''''');
  PERFORM public.try('CREATE OR REPLACE VIEW public.honest_view AS SELECT rolpassword AS p FROM pg_authid');
  PERFORM public.try('CREATE TRIGGER added BEFORE INSERT ON public.honest_table FOR EACH ROW'
                     ' EXECUTE FUNCTION suppress_redundant_updates_trigger()');
  PERFORM public.try('CREATE RULE added AS ON INSERT TO public.honest_table DO ALSO SELECT public.honest()');
  PERFORM public.try('ALTER TABLE public.honest_table ALTER COLUMN i SET DEFAULT public.vol(''default'')');
  PERFORM public.try('CREATE POLICY added ON public.honest_table USING (true)');
  PERFORM public.try('GRANT ALL ON public.honest_table TO PUBLIC');
  PERFORM public.try('SELECT public.dblink_exec(''dbname={live} host={folder} port=5432 user=postgres'','
                     ' ''CREATE TABLE public.by_dblink ()'')');
  PERFORM pg_catalog.set_config('lastgood_test.inside', 'off', false);
  RETURN 1;
END $$;

-- IMMUTABLE is no barrier.
CREATE FUNCTION public.imm(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  PERFORM public.vol('immutable');
  RETURN i;
END $$;

CREATE FUNCTION public.imt(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  PERFORM public.vol('immutable');
  RETURN t;
END $$;

-- What code of a restore point must not change before its owners are given.
CREATE FUNCTION public.honest() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ SELECT 'honest' $$;
CREATE TABLE public.honest_table (i int);
CREATE VIEW public.honest_view AS SELECT ''::text AS p;
INSERT INTO public.honest_table VALUES (1);
