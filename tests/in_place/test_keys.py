"""Foreign keys to tables that stay: which of them the operator may check by a query."""

from __future__ import annotations

from lastgood.dump.names import Relation
from lastgood.in_place.build import late_checks
from lastgood.in_place.marks import Check, GeneratedColumn
from lastgood.in_place.platform import keys
from lastgood.in_place.platform.keys import PlatformKey
from tests.support.hosted import ADMIN, Project

TABLES = """
CREATE SCHEMA staged;
CREATE FUNCTION staged.code(uuid) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
CREATE TABLE staged.plain (u uuid);
CREATE TABLE staged.with_an_index (u uuid);
CREATE INDEX ON staged.with_an_index (u) WHERE staged.code(u);
CREATE TYPE staged.own AS (u uuid);
CREATE FUNCTION staged.cast_it(staged.own) RETURNS uuid IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN ($1).u; END';
CREATE CAST (staged.own AS uuid) WITH FUNCTION staged.cast_it(staged.own) AS IMPLICIT;
CREATE TABLE staged.with_a_cast (u staged.own);
CREATE FUNCTION staged.read_it(text) RETURNS uuid IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE CAST (text AS uuid) WITH FUNCTION staged.read_it(text) AS IMPLICIT;
CREATE TABLE staged.with_a_cast_of_text (u text);
"""


def key_of(table: str) -> PlatformKey:
    return PlatformKey(
        name=f"{table}_u_fkey",
        table=Relation("staged", table),
        columns=("u",),
        references=Relation("auth", "users"),
        keys=("id",),
        on_delete="cascade",
        set_columns=(),
        validated=True,
        command=(
            f"ALTER TABLE staged.{table} ADD CONSTRAINT {table}_u_fkey FOREIGN KEY (u) REFERENCES auth.users(id)"
        ).encode(),
        live=Relation("public", table),
    )


def test_messages_have_the_live_name() -> None:
    error = keys.being_deleted(key_of("plain"))
    assert (error.message, error.hint) == (
        "cannot validate foreign key plain_u_fkey of public.plain: rows of auth.users are being deleted",
        "Run again when no rows of auth.users are being deleted: lastgood rollback",
    )


def test_what_is_left_to_the_owner_comes_with_its_command() -> None:
    check = Check(domain=False, schema_name="public", owner="t", name="c")
    column = GeneratedColumn(schema_name="public", table="t", name="g", expression="public.f(i)")
    assert late_checks.to_validate(check) == (
        "check constraint c on public.t is NOT VALID: lastgood does not run its functions with your rights; read them, "
        'then run as the owner: ALTER TABLE "public"."t" VALIDATE CONSTRAINT "c"'
    )
    assert late_checks.to_compare(column) == (
        "generated column g of public.t was not compared with its expression: lastgood does not run its functions with "
        'your rights; read them, then compare: SELECT count(*) FROM ONLY "public"."t" WHERE "g"::text IS DISTINCT FROM '
        "(public.f(i))::text"
    )


def test_only_keys_whose_check_runs_no_function_of_the_restore_point(project: Project, database: str) -> None:
    project.psql(database, TABLES, user=ADMIN)
    every = [key_of(table) for table in ("plain", "with_an_index", "with_a_cast", "with_a_cast_of_text")]
    with project.connect(database, user=ADMIN) as connection:
        assert keys.without_code(connection, every) == every[:1]
        keys.add(connection, every[:1], lambda: False, validate=False)
        assert not keys.valid(connection, every[0])
        assert keys.add(connection, every[:1], lambda: False) == []
        assert keys.valid(connection, every[0])
