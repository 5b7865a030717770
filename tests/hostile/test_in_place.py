"""Code of a restore point in a rollback in place on a hosted platform, whose operator has no guard against it.

What the operator does in the live database must be what the statements of the restore point say: the triggers and
policies of tables that stay come from a scratch database in which code has run."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.conftest import LONG
from tests.support import forked_cli
from tests.support.hosted import ADMIN, Project
from tests.support.real_dumps import run

VERSIONS = pytest.mark.postgres(15, 16, 17, 18) if LONG else pytest.mark.postgres(17)
# The attacks run whenever the check of the domain does: also when a constant of the composite type is read.
CODE = """
CREATE FUNCTION public.attack() RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  attack text;
BEGIN
  IF current_setting('lastgood_test.quiet', true) = 'on' THEN
    RETURN 1;
  END IF;
  FOREACH attack IN ARRAY ARRAY[{attacks}] LOOP
    BEGIN
      EXECUTE attack;
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END LOOP;
  RETURN 1;
END $$;
CREATE FUNCTION public.imm(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  PERFORM public.attack();
  RETURN i;
END $$;
CREATE DOMAIN public.d AS int CHECK (public.imm(VALUE) > 0);
CREATE TYPE public.c AS (a public.d);
CREATE TYPE public.en AS ENUM ('a');
CREATE FUNCTION public.to_uuid(public.en) RETURNS uuid LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  PERFORM public.attack();
  RETURN '00000000-0000-0000-0000-000000000001';
END $$;
CREATE FUNCTION public.zz_reading(a public.c DEFAULT '(1)'::public.c) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION public.tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE public.checked (c public.c CHECK (c IS DISTINCT FROM '(1)'::public.c OR public.count_of('sales') > -1));
INSERT INTO public.checked VALUES ('(1)');
"""
# With the cast, the server checks the rows of the key with the rights of the owner of auth.users.
KEY = """
CREATE CAST (public.en AS uuid) WITH FUNCTION public.to_uuid(public.en) AS IMPLICIT;
CREATE TABLE public.keyed (e public.en REFERENCES auth.users);
INSERT INTO public.keyed VALUES ('a');
"""
GAINED = "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'hostile%' OR rolname LIKE 'lastgood%'"
TIES = """
SELECT tgname::text, '' FROM pg_trigger WHERE tgname = 'added'
UNION ALL SELECT polname, pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polname = 'files_of_sales'
"""


@pytest.fixture
def project(hosted_project: Project) -> Project:
    return hosted_project


def back(
    project: Project, store: Path, code: str, *attacks: str, edit: Callable[[str], str] = str, live: str = ""
) -> tuple[str, subprocess.CompletedProcess[str]]:
    """Roll a project with this code back in place to its dump; returns the name of its database."""
    database = project.copy()
    quoted = ", ".join("$a$" + each + "$a$" for each in ("CREATE ROLE hostile_made", *attacks))
    project.psql(database, "SET lastgood_test.quiet = 'on';" + CODE.replace("{attacks}", quoted) + code)
    target = project.target(database, user=ADMIN).with_settings({"lastgood_test.quiet": "on"})
    path = store / "hostile.sql"
    run(project.server, "pg_dump", "-d", str(target), "-f", path)
    path.write_text(edit(path.read_text()))
    if live:
        project.psql(database, "SET lastgood_test.quiet = 'on';" + live)
    common = ("--db", project.server.url(database), "--store", str(store), "--state", str(store / "state"))
    return database, forked_cli.run(*common, "rollback", "hostile.sql", "--in-place", "--yes", seconds=250)


@VERSIONS
def test_what_code_does_in_the_scratch_database(project: Project, store: Path) -> None:
    database, done = back(
        project,
        store,
        KEY,
        "CREATE TRIGGER added BEFORE UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.tf()",
        "ALTER POLICY files_of_sales ON storage.objects TO PUBLIC USING (public.is_sales(NULL) IS NOT NULL)",
        "CREATE CAST (public.en AS uuid) WITH FUNCTION public.to_uuid(public.en) AS IMPLICIT",
        edit=lambda text: re.sub(r"(?ms)^CREATE CAST .*?;$", "", text),
        live="DROP TABLE public.keyed; DROP CAST (public.en AS uuid)",
    )
    assert done.returncode == 5, done.stdout + done.stderr
    assert (
        "cannot use the rewritten definitions: code in the restore point created or changed 3 objects\n"
        "         cast from public.en to uuid: created by code while it was restored\n"
        "         trigger added on auth.users: created by code while it was restored\n"
        "         policy files_of_sales on storage.objects: changed by code while it was restored\n"
    ) in done.stderr
    with project.connect(database, user=ADMIN) as connection:
        assert connection.execute(GAINED).fetchall() == []
        usual = "((bucket_id = 'files'::text) AND public.is_sales(auth.uid()))"
        assert connection.execute(TIES).fetchall() == [("files_of_sales", usual)]
    project.drop(database)


@VERSIONS
def test_a_function_that_code_replaces(project: Project, store: Path) -> None:
    replacing = (
        "CREATE OR REPLACE FUNCTION public.tf() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN END'"
    )
    database, done = back(project, store, "", replacing)
    assert done.returncode == 5, done.stdout + done.stderr
    assert (
        "created or changed 1 object\n         function public.tf(): changed by code while it was restored\n"
        in done.stderr
    )
    with project.connect(database, user=ADMIN) as connection:
        assert connection.execute(GAINED).fetchall() == []
    project.drop(database)


# Functions in a schema that PUBLIC may not use, and this role may open to others.
SECURE = """
CREATE SCHEMA secure;
GRANT USAGE ON SCHEMA secure TO postgres WITH GRANT OPTION;
CREATE TABLE secure.t (i int);
GRANT SELECT ON secure.t TO postgres;
CREATE FUNCTION secure.make() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'CREATE ROLE hostile_secure';
"""


@VERSIONS
def test_functions_of_a_schema_that_a_view_names(project: Project, store: Path) -> None:
    with project.connect("postgres", user=ADMIN) as admin:
        admin.execute(SECURE)
    try:
        code = "CREATE VIEW public.v AS SELECT i, 'a'::public.en AS e FROM secure.t"
        database, done = back(project, store, code, "SELECT secure.make()")
    finally:
        with project.connect("postgres", user=ADMIN) as admin:
            admin.execute("DROP SCHEMA secure CASCADE")
    assert done.returncode == 0, done.stdout + done.stderr
    with project.connect(database, user=ADMIN) as connection:
        assert connection.execute(GAINED).fetchall() == []
        assert connection.execute("SELECT i, e FROM public.v").fetchall() == []
    project.drop(database)
