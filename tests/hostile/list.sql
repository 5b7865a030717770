-- A list of deferred work that no run wrote, whose tasks and whose own definition run code.
CREATE SCHEMA "lastgood_20261130-000000-abcdef01";
CREATE TABLE "lastgood_20261130-000000-abcdef01".unfinished (number int, kind text, schema_name text, table_name text, name text,
  settings text[], statements text[]);
CREATE TABLE {home}.p (i int PRIMARY KEY);
CREATE TABLE {home}.t (i int, CONSTRAINT c CHECK ({home}.imm(i) > 0));
INSERT INTO {home}.p VALUES (1);
INSERT INTO {home}.t VALUES (1);
ALTER TABLE {home}.t ADD CONSTRAINT f FOREIGN KEY (i) REFERENCES {home}.p NOT VALID;
INSERT INTO "lastgood_20261130-000000-abcdef01".unfinished VALUES
  (1, 'index', '{home}', 't', 'x', '{}', ARRAY['CREATE INDEX CONCURRENTLY x ON {home}.t ({home}.imm(i))']),
  (2, 'foreign key', '{home}', 't', 'f', '{}', ARRAY['ALTER TABLE {home}.t VALIDATE CONSTRAINT f']);
CREATE INDEX ON "lastgood_20261130-000000-abcdef01".unfinished (number) WHERE number > {home}.imm(0);
