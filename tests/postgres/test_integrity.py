"""What a catalogue calls sound and is not."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.integrity import IntegrityFinding, KeyOrphans, findings, keys_with_orphans
from lastgood.postgres.server import Connection

ALL = pytest.mark.postgres(15, 16, 17, 18)


@pytest.fixture
def connection(server: EmbeddedServer, new_database: Callable[..., str]) -> Connection:
    opened = server.target(new_database()).connect()
    opened.execute("SET search_path = public")
    return opened


@pytest.fixture(autouse=True)
def closed(connection: Connection) -> object:
    yield
    connection.close()


def behind_its_back(connection: Connection, *statements: str) -> None:
    """As a load with triggers switched off does it."""
    connection.execute("SET session_replication_role = replica")
    for statement in statements:
        connection.execute(statement)
    connection.execute("SET session_replication_role = origin")


@ALL
def test_orphans_of_a_validated_key(connection: Connection) -> None:
    connection.execute("CREATE TABLE parent (id int PRIMARY KEY)")
    connection.execute("CREATE TABLE child (p int CONSTRAINT c_p REFERENCES parent, note text)")
    connection.execute("INSERT INTO parent VALUES (1)")
    behind_its_back(
        connection,
        "INSERT INTO child SELECT i % 10 + 1 FROM generate_series(1, 30) i",
        "INSERT INTO child VALUES (NULL)",
    )
    assert list(keys_with_orphans(connection)) == [
        KeyOrphans("public", "child", "c_p", "public.parent", True, 27, ("10", "2", "3", "4", "5"))
    ]
    connection.execute("DELETE FROM child WHERE p > 1")
    (one,) = keys_with_orphans(connection)
    assert (one.validated, one.orphans, one.samples) == (True, 0, ())


@ALL
def test_keys_that_are_not_valid_are_distinguished(connection: Connection) -> None:
    connection.execute("CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (p int)")
    connection.execute("INSERT INTO child VALUES (7)")
    connection.execute("ALTER TABLE child ADD CONSTRAINT later FOREIGN KEY (p) REFERENCES parent NOT VALID")
    (one,) = keys_with_orphans(connection)
    assert (one.name, one.validated, one.orphans, one.samples) == ("later", False, 1, ("7",))


@ALL
def test_several_columns_odd_names_and_match_full(connection: Connection) -> None:
    connection.execute('CREATE SCHEMA "Od""d"')
    connection.execute('CREATE TABLE "Od""d"."P%s" ("A b" int, "ç" text, PRIMARY KEY ("A b", "ç"))')
    connection.execute('CREATE TABLE "Od""d".c (x text, y int, FOREIGN KEY (y, x) REFERENCES "Od""d"."P%s")')
    connection.execute('CREATE TABLE "Od""d".f (x text, y int, FOREIGN KEY (y, x) REFERENCES "Od""d"."P%s" MATCH FULL)')
    connection.execute("""INSERT INTO "Od""d"."P%s" VALUES (1, 'a')""")
    connection.execute("CREATE TABLE rows AS VALUES ('a', 1), ('b', 1), (NULL, 1), ('a', 2), (NULL, NULL)")
    behind_its_back(connection, 'INSERT INTO "Od""d".c SELECT * FROM rows', 'INSERT INTO "Od""d".f SELECT * FROM rows')
    simple, full = keys_with_orphans(connection)
    assert (simple.schema_name, simple.table, simple.references) == ('Od"d', "c", 'Od"d.P%s')
    assert (simple.orphans, simple.samples) == (2, ("1, b", "2, a"))
    assert (full.orphans, full.samples) == (3, ("1, NULL", "1, b", "2, a"))


@ALL
def test_partitions_and_children(connection: Connection) -> None:
    connection.execute("CREATE TABLE parent (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    connection.execute("CREATE TABLE parent_1 PARTITION OF parent FOR VALUES FROM (0) TO (10)")
    connection.execute("CREATE TABLE child (p int REFERENCES parent) PARTITION BY LIST (p)")
    connection.execute("CREATE TABLE child_1 PARTITION OF child DEFAULT")
    connection.execute("INSERT INTO parent VALUES (1), (2)")
    behind_its_back(connection, "INSERT INTO child VALUES (1), (2), (3)")
    (one,) = keys_with_orphans(connection)
    assert (one.table, one.orphans, one.samples) == ("child", 1, ("3",))
    # A key is of the table itself, not of its children; and rows of the referenced table's children are no match.
    connection.execute("CREATE TABLE base (id int PRIMARY KEY); CREATE TABLE derived () INHERITS (base)")
    connection.execute("CREATE TABLE user_of_base (b int REFERENCES base)")
    connection.execute("INSERT INTO derived VALUES (5)")
    behind_its_back(connection, "INSERT INTO user_of_base VALUES (5)")
    assert [(one.table, one.orphans) for one in keys_with_orphans(connection)] == [("child", 1), ("user_of_base", 1)]


@pytest.mark.postgres(18)
def test_keys_with_a_period(connection: Connection) -> None:
    connection.execute("CREATE TABLE room (id int4range, valid daterange, PRIMARY KEY (id, valid WITHOUT OVERLAPS))")
    connection.execute(
        "CREATE TABLE booking (room int4range, during daterange,"
        " FOREIGN KEY (room, PERIOD during) REFERENCES room (id, PERIOD valid))"
    )
    connection.execute(
        "INSERT INTO room VALUES ('[1,2)', '[2025-01-01,2025-02-01)'), ('[1,2)', '[2025-02-01,2025-03-01)')"
    )
    connection.execute("INSERT INTO booking VALUES ('[1,2)', '[2025-01-15,2025-02-15)')")
    (one,) = keys_with_orphans(connection)
    assert one.orphans == 0
    behind_its_back(
        connection,
        "INSERT INTO booking VALUES ('[1,2)', '[2025-02-15,2025-03-15)'), ('[7,8)', '[2025-01-01,2025-01-02)')",
    )
    (one,) = keys_with_orphans(connection)
    assert (one.orphans, one.samples) == (2, ("[1,2), [2025-02-15,2025-03-15)", "[7,8), [2025-01-01,2025-01-02)"))


@ALL
def test_findings(connection: Connection) -> None:
    connection.execute("CREATE TABLE t (id int, k int)")
    connection.execute("CREATE VIEW fine AS SELECT id, NULL::int AS nothing FROM t")
    connection.execute("CREATE VIEW also_fine AS SELECT NULL::int AS id FROM t")
    connection.execute("CREATE MATERIALIZED VIEW filled AS SELECT 1 AS x")
    connection.execute("CREATE INDEX good ON t (id)")
    assert findings(connection) == []
    connection.execute("INSERT INTO t VALUES (1, 1), (1, 1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY bad ON t (k)")
    connection.execute("CREATE TABLE p (id int, k int) PARTITION BY LIST (k)")
    connection.execute("CREATE TABLE p1 PARTITION OF p DEFAULT")
    connection.execute("CREATE INDEX half ON ONLY p (id)")
    connection.execute("CREATE MATERIALIZED VIEW empty AS SELECT 1 AS x WITH NO DATA")
    connection.execute(
        'CREATE VIEW dummy AS SELECT NULL::integer AS id, NULL::numeric(10,2) AS "price, net",'
        ' NULL::text COLLATE "C" AS c'
    )
    connection.execute("CREATE VIEW one_dummy AS SELECT NULL::bigint AS n")
    assert findings(connection) == [
        IntegrityFinding("invalid index", "public.bad", "on t"),
        IntegrityFinding("invalid index", "public.half", "on p, not all partitions have theirs"),
        IntegrityFinding("unfinished view", "public.dummy", "every column is a bare NULL"),
        IntegrityFinding("unfinished view", "public.one_dummy", "every column is a bare NULL"),
        IntegrityFinding("unpopulated materialized view", "public.empty", "reading it is an error"),
    ]
