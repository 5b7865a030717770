-- What runs code while it is restored: "-- == NAME", then the statements that make it in the source database. Each calls
-- {home}.vol(text), or {home}.imm(int) and {home}.imt(text), which are IMMUTABLE and call it (probes.sql). {home} is the
-- schema of the construct, and first in the search path; {id} makes names of the whole database distinct.
-- Notes: "alone": the restore fails or is refused, so that nothing would follow it; "not in place": the same in place;
-- "in place by superuser"; "public": it must lie in that schema; "by superuser"; "from MAJOR"; "needs EXTENSION";
-- "later": a restore itself runs none of it, only what follows.

-- == check
CREATE TABLE t (i int CHECK (vol('c') > 0));
INSERT INTO t VALUES (1);

-- == default
-- later
CREATE TABLE t (i int, j int DEFAULT vol('d'));
INSERT INTO t (i) VALUES (1);

-- == domain
CREATE DOMAIN d AS int CHECK (imm(VALUE) > 0);
CREATE TABLE t (i d);
INSERT INTO t VALUES (1);

-- == domain behind a foreign key
CREATE DOMAIN d AS int CHECK (imm(VALUE) > 0);
CREATE TABLE p (i int PRIMARY KEY);
CREATE TABLE t (i d REFERENCES p);
INSERT INTO p VALUES (1);
INSERT INTO t VALUES (1);

-- == domain in a literal of a composite type
CREATE DOMAIN d AS int CHECK (imm(VALUE) > 0);
CREATE TYPE c AS (a d);
CREATE VIEW v AS SELECT '(1)'::c AS c;
CREATE FUNCTION zf(a c DEFAULT '(1)'::c) RETURNS int LANGUAGE sql AS 'SELECT 1';

-- == constant of a composite type in a policy and a trigger
CREATE DOMAIN d AS int CHECK (imm(VALUE) > 0);
CREATE TYPE c AS (a d);
CREATE TABLE t (c c);
CREATE POLICY p ON t USING (c IS DISTINCT FROM '(1)'::c);
CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW WHEN (NEW.c IS DISTINCT FROM '(1)'::c) EXECUTE FUNCTION tf();

-- == first state of an aggregate
CREATE DOMAIN d AS int CHECK (imm(VALUE) > 0);
CREATE TYPE c AS (a d);
CREATE FUNCTION sf(c, int) RETURNS c LANGUAGE sql AS 'SELECT $1';
CREATE AGGREGATE ag(int) (SFUNC = sf, STYPE = c, INITCOND = '(1)');

-- == bound of a partition of a composite type
CREATE DOMAIN d AS int CHECK (imm(VALUE) > 0);
CREATE TYPE c AS (a d);
CREATE TABLE t (c c) PARTITION BY LIST (c);
CREATE TABLE t1 PARTITION OF t FOR VALUES IN ('(1)');
INSERT INTO t VALUES ('(1)');

-- == generated column
CREATE TABLE t (i int, g int GENERATED ALWAYS AS (imm(i)) STORED);
INSERT INTO t VALUES (1);

-- == index expression
CREATE TABLE t (i int);
INSERT INTO t VALUES (1);
CREATE INDEX ON t (imm(i));

-- == index predicate
CREATE TABLE t (i int);
INSERT INTO t VALUES (1);
CREATE INDEX ON t (i) WHERE imm(i) > 0;

-- == constant in an index predicate
CREATE TABLE t (i int);
INSERT INTO t VALUES (1);
CREATE INDEX ON t (i) WHERE i > imm(0);

-- == partition key
CREATE TABLE t (i int) PARTITION BY RANGE (imm(i));
CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);
INSERT INTO t VALUES (1);

-- == partition bound
-- later
CREATE TABLE t (i int) PARTITION BY RANGE (i);
CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (imm(1)) TO (imm(10) + 5);
INSERT INTO t VALUES (1);

-- == attached partition with a check
CREATE TABLE t (i int) PARTITION BY RANGE (i);
CREATE TABLE t1 (i int, CHECK (imm(i) > 0));
INSERT INTO t1 VALUES (1);
ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (0) TO (10);

-- == check that is not valid
-- later
CREATE TABLE t (i int);
INSERT INTO t VALUES (1);
ALTER TABLE t ADD CONSTRAINT c CHECK (imm(i) > 0) NOT VALID;

-- == exclusion constraint with an expression
CREATE TABLE t (i int, EXCLUDE (imm(i) WITH =));
INSERT INTO t VALUES (1);

-- == range type with a difference
-- alone
-- in place by superuser
CREATE FUNCTION diff(a int, b int) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT {home}.imm($1 - $2)::float8';
CREATE TYPE r AS RANGE (SUBTYPE = int, SUBTYPE_DIFF = diff);
CREATE TABLE t (r r);
INSERT INTO t SELECT r(i, i + 10) FROM generate_series(1, 500) i;
CREATE INDEX ON t USING gist (r);

-- == statistics object
CREATE TABLE t (i int, k int);
INSERT INTO t SELECT i, i FROM generate_series(1, 200) i;
CREATE STATISTICS s ON (imm(i)), k FROM t;

-- == trigger that is always enabled
-- later
CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM {home}.vol(''t''); RETURN NEW; END';
CREATE TABLE t (i int);
INSERT INTO t VALUES (1);
CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION tf();
ALTER TABLE t ENABLE ALWAYS TRIGGER g;

-- == deferred constraint trigger
-- later
CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM {home}.vol(''t''); RETURN NEW; END';
CREATE TABLE t (i int);
INSERT INTO t VALUES (1);
CREATE CONSTRAINT TRIGGER g AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tf();

-- == rule
-- later
CREATE TABLE t (i int);
CREATE RULE r AS ON INSERT TO t DO ALSO SELECT vol('r');
INSERT INTO t VALUES (1);

-- == materialized view
CREATE MATERIALIZED VIEW m AS SELECT vol('m') AS v;

-- == materialized view through a view
CREATE VIEW v AS SELECT vol('v') AS v;
CREATE MATERIALIZED VIEW m AS SELECT v FROM v;

-- == materialized view that reads functions of the server only
-- alone
-- by superuser
CREATE MATERIALIZED VIEW m AS SELECT CASE WHEN current_database() NOT LIKE 'source%'
  THEN lo_from_bytea(777, '\x41') END AS v;
CREATE MATERIALIZED VIEW m2 AS SELECT CASE WHEN current_database() NOT LIKE 'source%'
  THEN lo_export(777, '{folder}/file_by_lo_export_{id}') END AS v FROM m;

-- == aggregate
CREATE FUNCTION sf(s int, v int) RETURNS int LANGUAGE sql AS 'SELECT {home}.vol(''a'')';
CREATE AGGREGATE ag(int) (SFUNC = sf, STYPE = int, INITCOND = '0');
CREATE MATERIALIZED VIEW m AS SELECT ag(i) AS v FROM generate_series(1, 3) i;

-- == operator
CREATE FUNCTION of(a int, b int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT {home}.imm($1) > 0';
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = of);
CREATE TABLE t (i int CHECK (i OPERATOR(===) 1));
INSERT INTO t VALUES (1);

-- == constant in a view
-- later
CREATE VIEW v AS SELECT i FROM public.honest_table WHERE i = imm(7);

-- == cast on assignment
-- not in place
CREATE TYPE ct AS (a int);
CREATE FUNCTION to_ct(int) RETURNS ct LANGUAGE plpgsql AS 'BEGIN PERFORM {home}.vol(''c''); RETURN ROW($1); END';
CREATE CAST (int AS ct) WITH FUNCTION to_ct(int) AS ASSIGNMENT;
CREATE MATERIALIZED VIEW m AS SELECT 1::ct AS c;

-- == cast of an enumeration to text
-- later
-- not in place
CREATE TYPE en AS ENUM ('a', 'b');
CREATE FUNCTION to_text(en) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM {home}.vol(''c''); RETURN ''x''; END';
CREATE CAST (en AS text) WITH FUNCTION to_text(en) AS IMPLICIT;
CREATE TABLE t (e en PRIMARY KEY);
INSERT INTO t VALUES ('a');

-- == event trigger
-- later
-- not in place
-- by superuser
CREATE FUNCTION ef() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM {home}.vol(''e''); END';
CREATE EVENT TRIGGER g_{id} ON ddl_command_end EXECUTE FUNCTION ef();
ALTER EVENT TRIGGER g_{id} ENABLE ALWAYS;

-- == event trigger on drops
-- later
-- by superuser
CREATE FUNCTION ef() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM {home}.vol(''e''); END';
CREATE EVENT TRIGGER g_{id} ON sql_drop EXECUTE FUNCTION ef();
CREATE EVENT TRIGGER g2_{id} ON ddl_command_start EXECUTE FUNCTION ef();

-- == login trigger
-- later
-- by superuser
-- from 17
CREATE FUNCTION ef() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM {home}.vol(''e''); END';
CREATE EVENT TRIGGER g_{id} ON login EXECUTE FUNCTION ef();

-- == policy
-- later
CREATE FUNCTION pf() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN {home}.vol(''p'') > 0; END';
CREATE TABLE t (i int PRIMARY KEY);
INSERT INTO t VALUES (1);
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON t USING (pf());
GRANT SELECT ON t TO PUBLIC;

-- == policy on the owner
-- later
-- in place by superuser
CREATE FUNCTION pf() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN {home}.vol(''p'') > 0; END';
CREATE TABLE t (i int PRIMARY KEY);
INSERT INTO t VALUES (1);
ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON t USING (pf());

-- == clustered table
CREATE TABLE t (i int);
INSERT INTO t VALUES (1);
CREATE INDEX t_i ON t (imm(i));
ALTER TABLE t CLUSTER ON t_i;

-- == text of a domain in an index
CREATE DOMAIN d AS text CHECK (imt(VALUE) <> '');
CREATE TABLE t (x d PRIMARY KEY);
INSERT INTO t VALUES ('x');
CREATE INDEX ON t (imt(x));

-- == column of another type by a view of the reader
CREATE VIEW v AS SELECT i, vol('v') AS j FROM public.honest_table;
CREATE MATERIALIZED VIEW m AS SELECT sum(j) AS s FROM v;

-- == program of a foreign table
-- alone
-- by superuser
-- needs file_fdw
CREATE EXTENSION file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE ft (l text) SERVER files OPTIONS (program 'cat /dev/null > {folder}/program_by_fdw_{id}');
CREATE MATERIALIZED VIEW m AS SELECT l FROM ft WHERE current_database() NOT LIKE 'source%';

-- == dblink
-- by superuser
-- needs dblink
CREATE EXTENSION dblink SCHEMA public;
CREATE MATERIALIZED VIEW m AS SELECT vol('dblink') AS v;

-- == index on the table of a migration tool
-- public
CREATE TABLE schema_migrations (version varchar PRIMARY KEY);
INSERT INTO schema_migrations VALUES ('20260101000000');
CREATE INDEX ON schema_migrations (version) WHERE version > imt('0');

-- == index on an audit table
-- later
-- public
CREATE TABLE audit_log (created_at timestamptz DEFAULT now(), table_name text, action text);
INSERT INTO audit_log (table_name, action) VALUES ('t', 'DELETE');
CREATE INDEX ON audit_log (action) WHERE action > imt('0');

-- == constant in a statistics object
CREATE TABLE t (i int, k int);
INSERT INTO t SELECT i, i FROM generate_series(1, 200) i;
CREATE STATISTICS s ON (i + imm(1)), k FROM t;

-- == constant in a check of an inherited table
CREATE TABLE t (i int);
CREATE TABLE t1 (CHECK (i > imm(0))) INHERITS (t);
INSERT INTO t1 VALUES (1);

-- == sequence of a column with an index
CREATE TABLE t (id serial PRIMARY KEY, p int REFERENCES t);
INSERT INTO t (p) VALUES (1);
CREATE INDEX ON t (p) WHERE p > imm(0);

-- == operators and functions in the search path of the database
-- later
CREATE SCHEMA hostile;
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
CREATE FUNCTION hostile.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS
  'BEGIN PERFORM {home}.vol(''o''); RETURN $1 OPERATOR(pg_catalog.=) $2; END';
CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.eq);
CREATE FUNCTION hostile.eq(name, text) RETURNS boolean LANGUAGE plpgsql AS
  'BEGIN PERFORM {home}.vol(''o''); RETURN $1 OPERATOR(pg_catalog.=) $2; END';
CREATE OPERATOR hostile.= (LEFTARG = name, RIGHTARG = text, FUNCTION = hostile.eq);
CREATE FUNCTION hostile.current_setting(text) RETURNS text LANGUAGE plpgsql AS
  'BEGIN PERFORM {home}.vol(''s''); RETURN pg_catalog.current_setting($1); END';
CREATE FUNCTION hostile.current_database() RETURNS name LANGUAGE plpgsql AS
  'BEGIN PERFORM {home}.vol(''s''); RETURN pg_catalog.current_database(); END';
CREATE FUNCTION hostile.version() RETURNS text LANGUAGE plpgsql AS
  'BEGIN PERFORM {home}.vol(''s''); RETURN pg_catalog.version(); END';
DO $$ BEGIN
  EXECUTE pg_catalog.format('ALTER DATABASE %I SET search_path = hostile, pg_catalog', pg_catalog.current_database());
END $$;

-- == cast in a foreign key
-- not in place
CREATE TYPE en AS ENUM ('a', 'b');
CREATE FUNCTION to_int(en) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM {home}.vol(''k''); RETURN 1; END';
CREATE CAST (en AS int) WITH FUNCTION to_int(en) AS IMPLICIT;
CREATE TABLE p (i int PRIMARY KEY);
CREATE TABLE t (e en REFERENCES p);
INSERT INTO p VALUES (1);
INSERT INTO t VALUES ('a');

-- == operator class of a key
-- by superuser
CREATE FUNCTION cmp(int, int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
  'BEGIN PERFORM {home}.vol(''o''); RETURN pg_catalog.btint4cmp($1, $2); END';
CREATE OPERATOR CLASS oc FOR TYPE int USING btree AS
  OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 cmp(int, int);
CREATE TABLE t (i int, k int);
INSERT INTO t SELECT i, i FROM generate_series(1, 20) i;
CREATE UNIQUE INDEX ON t (i oc);
CREATE TYPE r AS RANGE (SUBTYPE = int, SUBTYPE_OPCLASS = oc);
CREATE TABLE u (r r PRIMARY KEY);
INSERT INTO u VALUES ('[1,5)'), ('[5,9)');

-- == operator class of a partition key
-- by superuser
CREATE FUNCTION hash(int, int8) RETURNS int8 LANGUAGE plpgsql IMMUTABLE AS
  'BEGIN PERFORM {home}.vol(''h''); RETURN 0; END';
CREATE OPERATOR CLASS oc FOR TYPE int USING hash AS OPERATOR 1 =, FUNCTION 2 hash(int, int8);
CREATE TABLE t (i int) PARTITION BY HASH (i oc);
CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0);
INSERT INTO t VALUES (1);

-- == domain with a default
-- later
CREATE DOMAIN d AS int DEFAULT vol('d');
CREATE TABLE t (i int, j d);
INSERT INTO t (i) VALUES (1);

-- == domain over an array of domains
CREATE DOMAIN d AS int CHECK (imm(VALUE) > 0);
CREATE DOMAIN a AS d[] CHECK (pg_catalog.array_length(VALUE, 1) > 0);
CREATE TABLE t (a a, c d[] DEFAULT '{1}');
INSERT INTO t VALUES ('{1,2}');
CREATE INDEX ON t (a);

-- == cast of a row type to text
-- later
-- not in place
CREATE TYPE c AS (a int);
CREATE FUNCTION to_text(c) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM {home}.vol(''c''); RETURN ''x''; END';
CREATE CAST (c AS text) WITH FUNCTION to_text(c) AS ASSIGNMENT;
CREATE TABLE t (c c);
INSERT INTO t VALUES (ROW(1)::c);

-- == view with the rights of its reader
CREATE VIEW v WITH (security_invoker = true) AS SELECT vol('i') AS v FROM public.honest_table;
CREATE MATERIALIZED VIEW m AS SELECT v FROM v;

-- == unlogged table with a rule instead
CREATE UNLOGGED TABLE t (i int CHECK (imm(i) > 0));
INSERT INTO t VALUES (1);
CREATE RULE r AS ON UPDATE TO t DO INSTEAD SELECT vol('r');

-- == event trigger on rewrites
-- later
-- by superuser
CREATE FUNCTION ef() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM {home}.vol(''e''); END';
CREATE EVENT TRIGGER g_{id} ON table_rewrite EXECUTE FUNCTION ef();

-- == routine in a body that is parsed
-- later
CREATE FUNCTION f(i int DEFAULT vol('f')) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT {home}.imm(1) + i; END;
CREATE TABLE t (i int DEFAULT f());
INSERT INTO t DEFAULT VALUES;

-- == casts in the list of deferred work
-- later
-- not in place
CREATE SCHEMA "lastgood_20260101-000000-00000{id}";
CREATE TYPE k AS (x text);
CREATE FUNCTION to_text(k) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM {home}.vol(''l''); RETURN ($1).x; END';
CREATE CAST (k AS text) WITH FUNCTION to_text(k) AS IMPLICIT;
CREATE TABLE "lastgood_20260101-000000-00000{id}".unfinished (number int PRIMARY KEY, kind k NOT NULL, schema_name text
  NOT NULL, table_name text NOT NULL, name text NOT NULL, settings text[] NOT NULL, statements text[] NOT NULL);
INSERT INTO "lastgood_20260101-000000-00000{id}".unfinished
  VALUES (1, ROW('index'), 't', 't', 'i', '{}', '{CREATE INDEX CONCURRENTLY i ON t.t (i)}');
