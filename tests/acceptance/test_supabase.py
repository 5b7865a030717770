"""The three files of ``supabase db dump``, made as its scripts make them: pg_dump, and what sed does to it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.dump.files.file_set import open_any
from lastgood.facts.of_dump import facts_of_dump
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.restore import restore
from tests.support.real_dumps import dumped, make_database

# Rewritings of lines of the file.
_SED = (
    (rb"^CREATE SCHEMA \"", rb'CREATE SCHEMA IF NOT EXISTS "'),
    (rb"^CREATE TABLE \"", rb'CREATE TABLE IF NOT EXISTS "'),
    (rb"^CREATE SEQUENCE \"", rb'CREATE SEQUENCE IF NOT EXISTS "'),
    (rb"^CREATE VIEW \"", rb'CREATE OR REPLACE VIEW "'),
    (rb"^CREATE FUNCTION \"", rb'CREATE OR REPLACE FUNCTION "'),
    (rb"^CREATE TRIGGER \"", rb'CREATE OR REPLACE TRIGGER "'),
    (rb"^CREATE EVENT TRIGGER ", rb"-- CREATE EVENT TRIGGER "),
    (rb"^         WHEN TAG IN ", rb"-- WHEN TAG IN "),
    (rb"^   EXECUTE FUNCTION ", rb"-- EXECUTE FUNCTION "),
    (rb"^ALTER EVENT TRIGGER ", rb"-- ALTER EVENT TRIGGER "),
    (rb"^COMMENT ON EXTENSION ", rb"-- COMMENT ON EXTENSION "),
    (rb"^SET transaction_timeout = 0", rb"-- SET transaction_timeout = 0"),
    (rb"^\\(un)?restrict ", rb"-- restrict "),
)


def files_of(server: EmbeddedServer, folder: Path, *data: str) -> Path:
    folder.mkdir()
    schema = dumped(server, ["--schema-only", "--quote-all-identifiers", "--role=postgres"])
    for pattern, replacement in _SED:
        schema = re.sub(pattern, replacement, schema, flags=re.MULTILINE)
    schema = re.sub(rb"(?m)^--.*\n", b"", schema) + b"\nRESET ALL;\n"
    rows = dumped(server, ["--data-only", "--quote-all-identifiers", "--role=postgres", *data])
    rows = re.sub(rb"(?m)^\\(?:un)?restrict .*$", rb"-- \g<0>", rows)
    (folder / "roles.sql").write_bytes(
        b"\nSET default_transaction_read_only = off;\nSET client_encoding = 'UTF8';\n\n"
        b'CREATE ROLE "rich_app";\nALTER ROLE "rich_app" WITH INHERIT NOLOGIN;\n\nRESET ALL;\n'
    )
    (folder / "schema.sql").write_bytes(schema)
    (folder / "data.sql").write_bytes(b"SET session_replication_role = replica;\n\n" + rows + b"\nRESET ALL;\n")
    return folder


@pytest.mark.postgres(15, 16, 17, 18)
@pytest.mark.parametrize("data", [[], ["--column-inserts", "--rows-per-insert=100000"]], ids=["copy", "inserts"])
def test_the_three_files_come_back_whole(server: EmbeddedServer, store: Path, data: list[str]) -> None:
    make_database(server)
    folder = files_of(server, store / "cloud_20251104_143000", *data)
    whole = store / "whole.sql"
    whole.write_bytes(dumped(server))
    expected = {(t.schema_name, t.name): t.rows for t in facts_of_dump(open_any(whole))[0].tables if t.rows}
    into = "rich_of_three_files"
    try:
        report = restore(server.target("postgres"), store, folder.name, into)
        assert {(t.schema_name, t.name): t.rows for t in report.tables if t.rows} == expected
        assert [table.name for table in report.tables if table.equal is False] == []
        with server.target(into).connect() as connection:
            row = connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone()
        assert row == (0,)
    finally:
        with server.target("postgres").connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(into)))
