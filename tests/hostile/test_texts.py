"""Restore points that no pg_dump wrote: what text alone gains, beside the constructs that a database can have."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.conftest import HERE, LONG, Construct, Field
from tests.hostile.test_constructs import VERSIONS, assert_no_success, lastgood, operators

HEAD = b"--\n-- PostgreSQL database dump\n--\nSET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n"
TAIL = b"\n--\n-- PostgreSQL database dump complete\n--\n"
PATH = "SET search_path = {home}, pg_catalog;\n"
# Names that queries of ours use, in a schema before that of the server.
SHADOWS = """
CREATE FUNCTION {home}.eq(oid, oid) RETURNS boolean LANGUAGE plpgsql AS
  'BEGIN PERFORM {home}.vol(''o''); RETURN $1 OPERATOR(pg_catalog.=) $2; END';
CREATE OPERATOR {home}.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = {home}.eq);
CREATE FUNCTION {home}.eq(name, name) RETURNS boolean LANGUAGE plpgsql AS
  'BEGIN PERFORM {home}.vol(''n''); RETURN $1 OPERATOR(pg_catalog.=) $2; END';
CREATE OPERATOR {home}.= (LEFTARG = name, RIGHTARG = name, FUNCTION = {home}.eq);
CREATE FUNCTION {home}.eq(xid, xid) RETURNS boolean LANGUAGE plpgsql AS
  'BEGIN PERFORM {home}.vol(''x''); RETURN $1 OPERATOR(pg_catalog.=) $2; END';
CREATE OPERATOR {home}.= (LEFTARG = xid, RIGHTARG = xid, FUNCTION = {home}.eq);
CREATE FUNCTION {home}.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS
  'BEGIN PERFORM {home}.vol(''u''); RETURN QUERY SELECT * FROM pg_catalog.unnest($1); END';
"""
TABLE = "CREATE TABLE {home}.t (i int);\n"
# What the operator does for the role that builds, and at the hand-over, while the path of the dump is in force.
GIVEN = "CREATE FUNCTION leaky(int) RETURNS int LANGUAGE plpgsql LEAKPROOF AS $$BEGIN RETURN 1; END$$;\n"
HANDED = """
GRANT SELECT ON TABLE t TO hostile_role;
SET xmloption = content;
GRANT INSERT ON TABLE t TO hostile_role;
SET default_tablespace = '';
GRANT UPDATE ON TABLE t TO hostile_role;
"""
CAST = """
CREATE FUNCTION {home}.c(pg_catalog.regclass) RETURNS text LANGUAGE plpgsql AS
  'BEGIN PERFORM {home}.vol(''c''); RETURN ''x''; END';
CREATE CAST (pg_catalog.regclass AS text) WITH FUNCTION {home}.c(pg_catalog.regclass) AS IMPLICIT;
"""
CLASS = """
CREATE FUNCTION {home}.cmp(text[], text[]) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
  'BEGIN PERFORM {home}.vol(''a''); RETURN 0; END';
CREATE OPERATOR FAMILY {home}.oc USING btree;
CREATE OPERATOR CLASS {home}.oc DEFAULT FOR TYPE text[] USING btree FAMILY {home}.oc AS
  OPERATOR 3 pg_catalog.=, FUNCTION 1 {home}.cmp(text[], text[]);
"""
FAMILY = """
CREATE FUNCTION {home}.cmp(int, name) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
  'BEGIN PERFORM {home}.vol(''a''); RETURN 0; END';
SET search_path = '';
ALTER OPERATOR FAMILY integer_ops USING btree ADD FUNCTION 1 (int, name) {home}.cmp(int, name);
"""
MARK = """
COMMENT ON SCHEMA {home} IS '{"tool":"lastgood","v":1,"role":"kept","run":"20261130-000000-abcdef01","live":"x"}';
"""
# Each with the exit status of a restore.
TEXTS = {
    "a search path": (SHADOWS + TABLE + PATH + GIVEN + HANDED, 0),
    "a cast between types of the server": (CAST, 3),
    "a default operator class of a type of the server": (CLASS, 3),
    "an operator family of the server": (FAMILY, 4),
    "a mark": (MARK, 0),
}
MARKED = 'SELECT FROM pg_description WHERE description LIKE \'%"tool":"lastgood"%\''


def text_of(field: Field, statements: str) -> bytes:
    """The statements, behind those that make what they call."""
    probes = (HERE / "probes.sql").read_text().replace("{inside}", "")
    return field.text(f"CREATE SCHEMA {{home}};\n{probes}{statements}", Construct("c90", "text", "", frozenset()))


@VERSIONS
@operators("superuser", long=("superuser",))
@pytest.mark.parametrize("name", TEXTS if LONG else ("a search path", "a mark"))
def test_a_text(field: Field, store: Path, name: str) -> None:
    statements, status = TEXTS[name]
    (store / "hostile.sql").write_bytes(
        HEAD + text_of(field, statements if TABLE in statements else statements + TABLE) + TAIL
    )
    into = f"{field.live}_new"
    for number, options in enumerate(((), ("--skip-damaged",))):
        done = lastgood(field, store, "restore", "hostile.sql", "--into", f"{into}{number}", *options)
        assert_no_success(field, done, f"{into}{number}", field.live)
        assert done.returncode == status or number, done.stderr
        if status == 0:
            with field.at_rest(f"{into}{number}") as connection:
                assert connection.execute(MARKED).fetchall() == []


RUN = "20261130-000000-abcdef01"


@VERSIONS
@operators("superuser", long=("superuser",))
def test_a_list_of_deferred_work_that_no_run_wrote(field: Field, store: Path) -> None:
    with field.at_rest(field.live) as connection:
        connection.execute(text_of(field, (HERE / "list.sql").read_text()))
    for arguments in (("status",), ("check",), ("resume", RUN, "--yes")):
        done = lastgood(field, store, *arguments)
        assert_no_success(field, done, field.live)
    assert done.returncode == 3, done.stderr
    assert "A reverted run cannot be resumed or aborted." in done.stderr
