"""Texts that no pg_dump writes, and that PostgreSQL would read in another way than the reader of dumps: no attack
succeeds. What is refused when the file is read is in tests/dump/hostile.py."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.conftest import APPLICATION, Field
from tests.hostile.test_constructs import VERSIONS, assert_no_success, lastgood, operators

DUMP = """--
-- PostgreSQL database dump
--
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE FUNCTION public.f(i integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $_$
BEGIN
  IF current_user LIKE 'lastgood%' AND current_query() LIKE 'ALTER TABLE%' THEN
    RAISE insufficient_privilege;
  END IF;
  PERFORM public.g();
  RETURN i;
END $_$;
CREATE FUNCTION public.g() RETURNS void LANGUAGE plpgsql AS $_$
BEGIN
  ALTER ROLE hostile_role SUPERUSER;
EXCEPTION WHEN insufficient_privilege THEN
  NULL;
END $_$;
CREATE TABLE public.t (a integer);
COPY public.t (a) FROM stdin;
1
\\.
ALTER TABLE public.t ADD CONSTRAINT c CHECK ((public.f(a) > 0)) NOT VALID;
{text}
--
-- PostgreSQL database dump complete
--
"""
# They are read as settings, comments and grants. The server would execute what they hide, if they were joined, sent
# under other settings, or lost a part.
HIDING = """
SET row_security = off --
;
SET xmloption = 'content
; ALTER ROLE hostile_role SUPERUSER; --';
SET standard_conforming_strings = off;
CREATE TABLE public.u (a integer);
SET standard_conforming_strings = on;
SET search_path = 'a\\';
SET default_toast_compression = '; ALTER ROLE hostile_role SUPERUSER; --';
CREATE TABLE public.v (a integer);
COMMENT ON TABLE public.t IS 'x' --
;
COMMENT ON TABLE public.u IS 'x
; ALTER ROLE hostile_role SUPERUSER; --';
SELECT pg_catalog.lo_create('1');
GRANT SELECT ON LARGE OBJECT 1 TO PUBLIC /* x
; ALTER ROLE hostile_role SUPERUSER; -- */ --
;
SELECT pg_catalog.lo_create('2');
GRANT SELECT ON LARGE OBJECT 2 TO PUBLIC /* x
; ALTER ROLE hostile_role SUPERUSER; -- */ --
;
GRANT SELECT (rolpassword) ON TABLE pg_catalog.pg_authid TO {application};
GRANT ALL ON FUNCTION pg_catalog.pg_read_file(text) TO PUBLIC;
"""
MORE_RIGHTS = "The role that runs code of the restore point may not do this."
WITHDRAWN = "it reaches beyond this database, and the live database does not grant it; it was revoked"


def restored(field: Field, store: Path, text: str) -> tuple[int, str]:
    (store / "hostile.sql").write_text(DUMP.format(text=text))
    into = f"{field.live}_new"
    done = lastgood(field, store, "restore", "hostile.sql", "--into", into)
    assert_no_success(field, done, into, field.live)
    return done.returncode, done.stderr


@VERSIONS
@operators("superuser", long=("superuser",))
def test_texts_that_hide_others(field: Field, store: Path) -> None:
    status, told = restored(field, store, HIDING.format(application=APPLICATION))
    assert status == 0, told
    assert f"caution SELECT on pg_authid for {APPLICATION}: {WITHDRAWN}" in told
    assert f"caution EXECUTE on pg_read_file(text) for PUBLIC: {WITHDRAWN}" in told
    with field.at_rest(f"{field.live}_new") as connection:
        given = connection.execute(
            "SELECT has_column_privilege(%(role)s, 'pg_authid', 'rolpassword', 'SELECT'),"
            " has_function_privilege(%(role)s, 'pg_read_file(text)', 'EXECUTE')",
            {"role": APPLICATION},
        ).fetchone()
    assert given == (False, False)


@VERSIONS
@operators("superuser", long=("superuser",))
def test_a_refusal_that_code_pretends(field: Field, store: Path) -> None:
    status, told = restored(field, store, "ALTER TABLE public.t VALIDATE CONSTRAINT c;")
    assert status == 5, told
    assert MORE_RIGHTS in told
