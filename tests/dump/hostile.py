"""Commands that no pg_dump writes, each of which would reach beyond the new database or into what PostgreSQL owns.

Each is to be refused when it stands alone in a dump that is right otherwise (``hostile_dump``).
"""

from __future__ import annotations

HEAD = """--
-- PostgreSQL database dump
--

-- Dumped from database version 15.20
-- Dumped by pg_dump version 15.20

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET row_security = off;

--
-- Name: t; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.t (
    a integer
);


--
-- Name: members; Type: VIEW; Schema: public; Owner: postgres
--

CREATE VIEW public.members AS
 SELECT roleid, member, grantor, admin_option FROM pg_catalog.pg_auth_members;


--
-- Name: again; Type: VIEW; Schema: public; Owner: postgres
--

CREATE VIEW public.again AS
 SELECT * FROM public.members;


--
-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY public.t (a) FROM stdin;
1
\\.


"""
FOOT = """

--
-- PostgreSQL database dump complete
--
"""

_CATALOGUES = (
    "pg_catalog.pg_auth_members",
    "pg_auth_members",
    '"pg_catalog"."pg_auth_members"',
    'PG_CATALOG."pg_auth_members"',
    "Pg_Catalog . Pg_Auth_Members",
    'U&"pg\\005fcatalog".pg_auth_members',
    "U&\"pg!005fcatalog\" UESCAPE '!'.pg_auth_members",
    "postgres.pg_catalog.pg_auth_members",
    "pg_catalog/* . */.pg_auth_members",
    "public.members",
    "public.again",
    "pg_roles",
    "pg_catalog.pg_authid",
    "pg_db_role_setting",
    "pg_catalog.pg_database",
    "pg_catalog.pg_proc",
    "pg_catalog.pg_largeobject",
    "pg_toast.pg_toast_1255",
    "information_schema.sql_features",
)
_ROWS = (
    "COPY {} FROM stdin;\n1\n\\.\n",
    "INSERT INTO {} VALUES (10, 20, 10, true);",
    "INSERT INTO {} VALUES (10, '20'::pg_catalog.oid, 10, true);",
    "INSERT INTO {} DEFAULT VALUES;",
)
_CHANGES = (
    "INSERT INTO pg_catalog.pg_auth_members (roleid, member) VALUES (10, 20), (10, 21);",
    "INSERT INTO pg_auth_members SELECT 10, 20, 10, true;",
    "INSERT INTO public.t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = pg_catalog.lo_export(1, '/tmp/x');",
    "INSERT INTO public.t VALUES (pg_catalog.lo_import('/etc/passwd'));",
    "INSERT INTO public.t VALUES (OPERATOR(public.-) 5);",
    "INSERT INTO public.t VALUES (1) RETURNING pg_catalog.pg_sleep(1);",
    "WITH gone AS (DELETE FROM pg_catalog.pg_auth_members RETURNING 1) INSERT INTO public.t SELECT 1;",
    "UPDATE pg_catalog.pg_authid SET rolsuper = true;",
    "UPDATE pg_catalog.pg_database SET datacl = NULL;",
    "UPDATE pg_settings SET setting = 'x' WHERE name = 'role';",
    "DELETE FROM pg_catalog.pg_authid;",
    "DELETE FROM pg_auth_members;",
    "TRUNCATE pg_catalog.pg_statistic;",
    "MERGE INTO pg_catalog.pg_authid a USING public.t ON true WHEN MATCHED THEN DELETE;",
    "CREATE RULE r AS ON INSERT TO public.t\n DO INSTEAD INSERT INTO pg_catalog.pg_auth_members VALUES (1, 2, 1);",
    "CREATE RULE r AS ON INSERT TO public.t DO ALSO (SELECT 1; UPDATE pg_authid SET rolsuper = true);",
    "CREATE RULE r AS ON INSERT TO public.t DO INSTEAD INSERT INTO public.members VALUES (10, 20, 10, true);",
    "CREATE RULE r AS ON INSERT TO public.t DO INSTEAD DELETE FROM public.again;",
    "CREATE RULE r AS ON INSERT TO pg_catalog.pg_class DO ALSO NOTHING;",
    "CREATE FUNCTION public.f() RETURNS void LANGUAGE sql BEGIN ATOMIC DELETE FROM pg_authid; END;",
    "CREATE FUNCTION public.f() RETURNS void LANGUAGE sql BEGIN ATOMIC DELETE FROM public.again; END;",
    "CREATE PROCEDURE public.f() LANGUAGE sql BEGIN ATOMIC INSERT INTO pg_catalog.pg_authid DEFAULT VALUES; END;",
    "CREATE FUNCTION public.f() RETURNS bigint LANGUAGE sql\n BEGIN ATOMIC"
    " WITH d AS (DELETE FROM pg_authid RETURNING 1) SELECT count(*) FROM d; END;",
    'CREATE RULE "_RETURN" AS ON SELECT TO public.t DO INSTEAD SELECT oid AS a FROM pg_catalog.pg_authid;',
    # Objects of PostgreSQL's own.
    "CREATE TABLE pg_catalog.x (a integer);",
    "CREATE TABLE pg_temp.x (a integer);",
    "CREATE TABLE information_schema.x (a integer);",
    "CREATE TABLE public.x (a integer) INHERITS (pg_catalog.pg_class);",
    "CREATE TABLE public.x (a oid REFERENCES pg_catalog.pg_authid(oid));",
    "CREATE TABLE public.x PARTITION OF pg_catalog.pg_class DEFAULT;",
    "CREATE TABLE public.x AS SELECT * FROM pg_catalog.pg_authid;",
    "CREATE VIEW pg_catalog.x AS SELECT 1;",
    "CREATE MATERIALIZED VIEW pg_catalog.x AS SELECT 1;",
    "CREATE SEQUENCE pg_catalog.x;",
    "CREATE SCHEMA pg_evil;",
    "CREATE SCHEMA information_schema;",
    "CREATE SCHEMA x CREATE TABLE y (a integer);",
    "CREATE FUNCTION pg_catalog.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1';",
    "CREATE OR REPLACE FUNCTION pg_catalog.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1';",
    "CREATE PROCEDURE pg_catalog.p() LANGUAGE sql AS 'SELECT 1';",
    "CREATE AGGREGATE pg_catalog.x(integer) (SFUNC = int4pl, STYPE = integer);",
    "CREATE OPERATOR pg_catalog.= (FUNCTION = int4eq, LEFTARG = integer, RIGHTARG = text);",
    "CREATE TYPE pg_catalog.x AS ENUM ('a');",
    "CREATE TYPE pg_catalog.x AS (a integer);",
    "CREATE DOMAIN pg_catalog.x AS integer;",
    "CREATE COLLATION pg_catalog.x (locale = 'C');",
    "CREATE CONVERSION pg_catalog.x FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;",
    "CREATE OPERATOR CLASS pg_catalog.x FOR TYPE integer USING btree AS OPERATOR 1 <;",
    "CREATE OPERATOR FAMILY pg_catalog.x USING btree;",
    "CREATE TEXT SEARCH DICTIONARY pg_catalog.x (TEMPLATE = simple);",
    "CREATE STATISTICS pg_catalog.x ON a, b FROM public.t;",
    "CREATE STATISTICS public.x ON relname, relkind FROM pg_class;",
    "CREATE INDEX x ON pg_catalog.pg_class (relname);",
    "CREATE TRIGGER x BEFORE INSERT ON pg_authid FOR EACH ROW EXECUTE FUNCTION public.f();",
    "CREATE POLICY p ON pg_catalog.pg_authid USING (true);",
    "CREATE PUBLICATION p FOR TABLE pg_catalog.pg_authid;",
    "ALTER TABLE pg_catalog.pg_authid ADD COLUMN x integer;",
    "ALTER TABLE pg_authid OWNER TO evil;",
    "ALTER TABLE pg_authid ENABLE ROW LEVEL SECURITY;",
    "ALTER TABLE pg_catalog.pg_authid ADD CONSTRAINT c CHECK (false);",
    "ALTER TABLE public.t SET SCHEMA pg_catalog;",
    "ALTER TABLE pg_authid RENAME TO x;",
    "ALTER VIEW public.members RENAME TO x;\nINSERT INTO public.x VALUES (10, 20, 10, true);",
    "ALTER VIEW public.again RENAME TO x;\nCOPY public.x FROM stdin;\n10\t20\t10\tt\n\\.\n",
    "UPDATE public.members SET member = 20;",
    "DELETE FROM public.again;",
    "INSERT INTO public.members SELECT 10, 20, 10, true;",
    "ALTER TABLE public.t ALTER COLUMN a TYPE bigint USING pg_catalog.lo_export(1, '/tmp/x');",
    "ALTER TABLE public.t ADD COLUMN b integer DEFAULT pg_catalog.lo_export(1, '/tmp/x');",
    "ALTER INDEX pg_catalog.pg_class_oid_index SET (fillfactor = 50);",
    "ALTER SEQUENCE pg_catalog.x OWNED BY public.t.a;",
    "ALTER FUNCTION pg_catalog.lower(text) OWNER TO evil;",
    "ALTER FUNCTION lower(text) OWNER TO evil;",
    "ALTER FUNCTION pg_catalog.lower(text) SECURITY DEFINER;",
    "ALTER OPERATOR pg_catalog.=(integer, integer) OWNER TO evil;",
    "ALTER TYPE pg_catalog.int4 OWNER TO evil;",
    "ALTER SCHEMA pg_catalog OWNER TO evil;",
    "ALTER SCHEMA information_schema OWNER TO evil;",
    "ALTER SCHEMA public RENAME TO x;",
    "ALTER OPERATOR CLASS pg_catalog.int4_ops USING btree OWNER TO evil;",
    "ALTER OPERATOR FAMILY pg_catalog.integer_ops USING btree\n ADD FUNCTION 1 (integer, integer) public.f(int, int);",
    "ALTER TEXT SEARCH CONFIGURATION pg_catalog.english ADD MAPPING FOR word WITH simple;",
    "ALTER TEXT SEARCH DICTIONARY pg_catalog.simple (accept = false);",
    "ALTER DOMAIN information_schema.cardinal_number ADD CONSTRAINT c CHECK (false);",
    "ALTER EXTENSION plpgsql ADD TABLE public.t;",
    "ALTER SYSTEM SET shared_preload_libraries = 'x';",
    "COMMENT ON TABLE pg_catalog.pg_authid IS 'x';",
    "COMMENT ON COLUMN pg_authid.rolname IS 'x';",
    "COMMENT ON FUNCTION pg_catalog.lower(text) IS 'x';",
    "COMMENT ON TYPE integer IS 'x';",
    "COMMENT ON SCHEMA pg_catalog IS 'x';",
    "SECURITY LABEL FOR x ON TABLE pg_catalog.pg_authid IS 'y';",
    "GRANT SELECT ON ALL TABLES IN SCHEMA pg_catalog TO PUBLIC;",
    "GRANT ALL ON SCHEMA information_schema TO PUBLIC;",
    "GRANT ALL ON pg_toast.pg_toast_1255 TO PUBLIC;",
    "REFRESH MATERIALIZED VIEW pg_catalog.x;",
    "SELECT pg_catalog.setval('pg_catalog.x', 5, true);",
    "SELECT * FROM pg_catalog.pg_restore_relation_stats('schemaname', 'pg_catalog', 'relname', 'pg_class');",
    # Search paths, settings.
    "SET search_path = pg_catalog;\nCREATE FUNCTION lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1';",
    "SET search_path = pg_catalog, public;\nCREATE FUNCTION lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1';",
    "SET search_path = nothing, pg_catalog;\nCREATE FUNCTION lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1';",
    "SET search_path = nothing, pg_catalog;\nCREATE TYPE x AS ENUM ('a');",
    "SET search_path = public, information_schema;",
    "SET search_path = pg_toast;",
    "SET search_path = public, pg_temp;",
    "SELECT pg_catalog.set_config('search_path', 'public, INFORMATION_SCHEMA', false);",
    "SELECT pg_catalog.set_config('search_path', '\"pg_toast\"', false);",
    'SET "standard_conforming_strings" = off;',
    "SET/**/standard_conforming_strings = off;",
    "SET standard_conforming_strings = no;\n"
    "INSERT INTO public.t VALUES ('\\'', pg_catalog.lo_export(1, '\n', ') -- ', 1));",
    "SET standard_conforming_strings = off;\nCOMMENT ON TABLE public.t IS '\\'' -- '\n;",
    "SET allow_system_table_mods = on;",
    "SET session_preload_libraries = 'x';",
    "SET local_preload_libraries = 'x';",
    "SET dynamic_library_path = '/tmp';",
    "SET log_statement = 'none';",
    "SET log_min_messages = panic;",
    "SET ignore_system_indexes = on;",
    "SET zero_damaged_pages = on;",
    "SET event_triggers = off;",
    "SET createrole_self_grant = 'set';",
    "SET temp_tablespaces = 'x';",
    "SELECT pg_catalog.set_config('role', 'postgres', false);",
    "SELECT pg_catalog.set_config('session_authorization', 'postgres', false);",
    "SELECT pg_catalog.set_config('session_preload_libraries', 'x', false);",
    "SELECT set_config('log_statement', 'none', false);",
    # Code and programs.
    "CREATE FUNCTION public.f(text) RETURNS text LANGUAGE c AS '$libdir/x', 'f';",
    "CREATE FUNCTION public.f(text) RETURNS text LANGUAGE 'C' AS '/tmp/x.so';",
    "CREATE FUNCTION public.f(text) RETURNS text AS 'pg_read_file_all' LANGUAGE internal;",
    "CREATE FUNCTION public.f(text) RETURNS text AS 'pg_read_file_all' LANGUAGE \"internal\" STRICT;",
    "CREATE EXTENSION file_fdw CASCADE;",
    "DO $$ BEGIN EXECUTE 'ALTER ROLE evil SUPERUSER'; END $$;",
    "DO LANGUAGE plpgsql 'BEGIN END';",
    "CALL public.f();",
    "LOAD 'auto_explain';",
    "PREPARE p AS SELECT pg_catalog.lo_export(1, '/tmp/x');",
    "EXECUTE p;",
    "DEALLOCATE ALL;",
    "DECLARE c CURSOR FOR SELECT 1;",
    "PREPARE TRANSACTION 'x';",
    "COMMIT PREPARED 'x';",
    "ROLLBACK;",
    "DISCARD ALL;",
    "REASSIGN OWNED BY postgres TO evil;",
    "DROP OWNED BY evil;",
    "IMPORT FOREIGN SCHEMA public FROM SERVER s INTO public;",
    "COPY public.t FROM PROGRAM 'id';",
    "COPY public.t TO PROGRAM 'id';",
    "COPY public.t FROM '/etc/passwd';",
    "COPY public.t TO '/tmp/x';",
    "COPY (SELECT pg_catalog.lo_export(1, '/tmp/x')) TO STDOUT;",
    "SELECT pg_catalog.lo_import('/etc/passwd');",
    "SELECT pg_catalog.lo_export(1, '/tmp/x');",
    "SELECT pg_catalog.pg_read_file('/etc/passwd');",
    "SELECT pg_catalog.pg_ls_dir('/');",
    "SELECT pg_catalog.pg_reload_conf();",
    "SELECT pg_catalog.pg_terminate_backend(1);",
    "SELECT pg_catalog.pg_drop_replication_slot('x');",
    "SELECT pg_catalog.pg_create_physical_replication_slot('x');",
    "SELECT pg_catalog.query_to_xml('DELETE FROM pg_authid', true, true, '');",
    "SELECT public.f();",
    "SELECT * INTO public.x FROM pg_catalog.pg_authid;",
    "SELECT pg_catalog.setval('public.s', pg_catalog.lo_import('/etc/passwd'), true);",
    "SELECT pg_catalog.setval('public.s', 1, true) FROM public.f();",
    "TABLE pg_catalog.pg_authid;",
    "VALUES (pg_catalog.lo_export(1, '/tmp/x'));",
    "CREATE FOREIGN TABLE public.far (a integer) SERVER s;\nCOPY public.far (a) FROM stdin;\n1\n\\.\n",
    "CREATE FOREIGN TABLE public.far (a integer) SERVER s;\nINSERT INTO public.far VALUES (1);",
    "CREATE TABLE public.root (a integer) PARTITION BY RANGE (a);\n"
    "CREATE FOREIGN TABLE public.far PARTITION OF public.root DEFAULT SERVER s;\n"
    "COPY public.root (a) FROM stdin;\n1\n\\.\n",
    "CREATE TABLE public.root (a integer) PARTITION BY RANGE (a);\n"
    "CREATE FOREIGN TABLE public.far (a integer) SERVER s;\n"
    "ALTER TABLE ONLY public.root ATTACH PARTITION public.far DEFAULT;\nINSERT INTO public.root VALUES (1);",
    # Definitions of another file, or of another part of this one, are loaded before all rows.
    "CREATE TABLE public.root (a integer) PARTITION BY RANGE (a);\nCOPY public.root (a) FROM stdin;\n1\n\\.\n"
    "--\n-- PostgreSQL database dump complete\n--\n--\n-- PostgreSQL database dump\n--\n"
    "CREATE FOREIGN TABLE public.far (a integer) SERVER s;\n"
    "ALTER TABLE ONLY public.root ATTACH PARTITION public.far DEFAULT;",
    # Expressions in places where pg_dump writes none.
    "INSERT INTO public.t (a[pg_catalog.lo_export(1, '/tmp/x')]) VALUES (1);",
    "INSERT INTO public.t VALUES (1) ORDER BY pg_catalog.lo_export(1, '/tmp/x');",
    "INSERT INTO public.t VALUES (1) LIMIT pg_catalog.lo_export(1, '/tmp/x');",
    "INSERT INTO public.t WITH x AS (SELECT pg_catalog.lo_export(1, '/tmp/x')) VALUES (1);",
    "INSERT INTO public.t VALUES (1) ON CONFLICT (pg_catalog.lo_export(1, '/tmp/x')) DO NOTHING;",
    "SELECT pg_catalog.set_config('search_path', ''::public.d, false);",
    "SET search_path = evil, pg_catalog;\nSELECT pg_catalog.set_config('search_path', ''::text, false);",
    # Several changes at once: the first one decides who runs them.
    "ALTER TABLE public.t OWNER TO evil, ADD CONSTRAINT c CHECK (public.f(a) > 0);",
    "ALTER TABLE public.t FORCE ROW LEVEL SECURITY, ADD CONSTRAINT c CHECK (public.f(a) > 0);",
    "ALTER TABLE public.t SET LOGGED, ADD COLUMN b integer DEFAULT pg_catalog.lo_export(1, '/tmp/x');",
    "\\! id",
    "\\copy public.t from program 'id'",
    "\\i /etc/passwd",
    "\\o |id",
    "\\gexec",
    "\\set x `id`",
)

NOT_OURS = (
    "EXPLAIN ANALYZE SELECT pg_catalog.lo_export(1, '/tmp/x');",
    "SAVEPOINT x;",
    "UNLISTEN *;",
    "NOTIFY x, 'y';",
    "LISTEN x;",
    "INSERT INTO public.t VALUES ((SELECT 1));",
    "LOCK TABLE pg_catalog.pg_authid;",
    "CREATE TABLE public.x (LIKE pg_catalog.pg_class);",
    "CREATE TEMPORARY TABLE x (a integer);",
    "CREATE INDEX CONCURRENTLY x ON public.t (a);",
    "ALTER TABLE public.t RENAME TO x;",
    "ALTER TABLE public.t OWNER TO evil, VALIDATE CONSTRAINT c;",
    "SELECT 1;",
)
"""Harmless, but nothing that pg_dump writes: such a dump is refused, too."""

STATEMENTS = tuple(rows.format(name) for name in _CATALOGUES for rows in _ROWS) + _CHANGES


def hostile_dump(statement: str) -> bytes:
    """A dump that is right but for ``statement``, which stands at its end."""
    return f"{HEAD}{statement}{FOOT}".encode()
