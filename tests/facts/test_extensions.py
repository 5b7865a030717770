"""What belongs to extensions: the facts of a database leave out just what pg_dump leaves out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood.dump.files.formats import open_dump
from lastgood.facts.compare import compare
from lastgood.facts.of_dump import facts_of_dump
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from tests.conftest import MAJORS
from tests.facts.conftest import facts
from tests.support.same_database import dump

# What can be hung on members of an extension, or changed of them, or may depend on them; each alone.
HUNG = {
    "nothing": (),
    "rows": (
        "INSERT INTO mconf VALUES (1, 'x')",
        "INSERT INTO mdata VALUES (1, 'y')",
        "SELECT setval('mseq', 42), setval('mseqconf', 43)",
    ),
    "index": ("CREATE INDEX ON mconf (v)", "CREATE INDEX ON mdata (v)", "CREATE INDEX ON mmat (v)"),
    "trigger": ("CREATE TRIGGER hung AFTER INSERT ON mconf FOR EACH ROW EXECUTE FUNCTION mtrg()",),
    "rule": ("CREATE RULE hung AS ON DELETE TO mconf DO ALSO NOTHING",),
    "policy": ("ALTER TABLE mconf ENABLE ROW LEVEL SECURITY", "CREATE POLICY hung ON mconf USING (true)"),
    "column": ("ALTER TABLE mconf ADD COLUMN hung text DEFAULT 'z'", "INSERT INTO mconf VALUES (1, 'x')"),
    "constraints": (
        "CREATE TABLE other (id int PRIMARY KEY)",
        "ALTER TABLE mconf ADD CONSTRAINT hung CHECK (v <> ''), ADD UNIQUE (v), ALTER v SET NOT NULL",
        "ALTER TABLE mdata ADD CONSTRAINT hung_key FOREIGN KEY (id) REFERENCES other",
    ),
    "statistics": ("CREATE STATISTICS hung ON id, v FROM mdata",),
    "publication": ("CREATE PUBLICATION hung FOR TABLE mconf, mdata",),
    "user mapping": ("CREATE USER MAPPING FOR postgres SERVER mserver OPTIONS (a 'b')",),
    "inherits": (
        "CREATE TABLE child (x int) INHERITS (mdata)",
        "CREATE TABLE grandchild (v text, y int) INHERITS (child)",
        "INSERT INTO grandchild VALUES (1, 'a', 2, 3)",
    ),
    "partition": ("CREATE TABLE part PARTITION OF mpart FOR VALUES FROM (0) TO (9)", "INSERT INTO mpart VALUES (3)"),
    "of a type": ("CREATE TABLE typed OF mtype (a NOT NULL)", "CREATE TABLE holds (a mtype, b mdom)"),
    "referenced": ("CREATE TABLE refers (id int REFERENCES mconf)", "CREATE VIEW reads AS SELECT * FROM mview"),
    "swallowed": (
        "CREATE TABLE swallowed (id serial PRIMARY KEY, t text CHECK (t <> ''))",
        "INSERT INTO swallowed (t) VALUES ('a')",
        "ALTER EXTENSION minimax ADD TABLE swallowed",
    ),
    "let go": ("ALTER EXTENSION minimax DROP TABLE mdata", "INSERT INTO mdata VALUES (1, 'y')"),
    "altered": (
        "ALTER FUNCTION mfun(int) IMMUTABLE",
        "ALTER DOMAIN mdom ADD CHECK (value < 100)",
        "ALTER TYPE menum ADD VALUE 'c'",
        "ALTER SEQUENCE mseq INCREMENT 5",
        "ALTER VIEW mview SET (security_barrier = true)",
        "ALTER TABLE mconf ALTER v SET STATISTICS 77, SET (fillfactor = 70), REPLICA IDENTITY FULL",
        "COMMENT ON TABLE mconf IS 'hung'",
        "GRANT INSERT ON mconf TO public",
        "REVOKE SELECT ON mdata FROM public",
    ),
}


@pytest.mark.extended
@pytest.mark.postgres(*MAJORS)
@pytest.mark.parametrize("what", HUNG)
def test_a_database_has_what_its_dump_has(
    server: EmbeddedServer, database: Callable[..., Target], tmp_path: Path, what: str
) -> None:
    target = database("CREATE EXTENSION minimax", *HUNG[what])
    text = dump(server, target.dbname, tmp_path / "dump.sql")
    of_dump, _ = facts_of_dump(open_dump(text), time_zone="UTC")
    comparison = compare(facts(target), of_dump)
    assert comparison.differences == ()
    assert comparison.exact
