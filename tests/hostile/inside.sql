  PERFORM {home}.try('CREATE TABLE public.read_file_{id} AS SELECT pg_read_file(''postgresql.conf'') AS t');
  PERFORM {home}.try('CREATE FUNCTION {home}.gift() RETURNS int LANGUAGE sql SECURITY DEFINER AS ''SELECT 1''');
  PERFORM {home}.try('ALTER FUNCTION {home}.gift() OWNER TO {user}');
  PERFORM {home}.try('CREATE OR REPLACE FUNCTION public.honest() RETURNS text LANGUAGE sql SECURITY DEFINER'
                     ' AS ''SELECT ''''replaced by {id}''''''');
  PERFORM {home}.try('CREATE OR REPLACE VIEW public.honest_view AS SELECT rolpassword AS p FROM pg_authid');
  PERFORM {home}.try('CREATE TRIGGER added_{id} BEFORE INSERT ON public.honest_table FOR EACH ROW'
                     ' EXECUTE FUNCTION suppress_redundant_updates_trigger()');
  PERFORM {home}.try('CREATE RULE added_{id} AS ON INSERT TO public.honest_table DO ALSO SELECT public.honest()');
  PERFORM {home}.try('ALTER TABLE public.honest_table ALTER COLUMN i SET DEFAULT {home}.vol(''default'')');
  PERFORM {home}.try('CREATE POLICY added_{id} ON public.honest_table USING (true)');
  PERFORM {home}.try('GRANT ALL ON public.honest_table TO PUBLIC');
  PERFORM {home}.try('COMMENT ON SCHEMA {home} IS ''{"tool":"lastgood","forged":"{id}"}''');
