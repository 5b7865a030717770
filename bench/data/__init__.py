"""The data sets of the measurements: made by SQL on a server, with the same rows for the same scale every time.

Each set except the last and ``keys-few`` is a file ``sql/NAME.sql`` of statements that use the functions of
``sql/draws.sql``. At scale 1:

* ``crm``: four tables of 0.1, 0.75, 1 and 3 million rows, 4 primary keys and 7 other indexes, 5 foreign keys; a
  plain dump of 1.2 GB, about 250 bytes a row;
* ``giant``: one table of 1 GB with a primary key and two indexes;
* ``small``: 2,000 tables of some rows, each with a primary key and an index, a third of them with a foreign key;
* ``keys``: 2,000 tables with two foreign keys each, all of them to the same five, and ``keys-few``: 240 of them, which
  shows how the time grows with their number;
* ``wide``: JSON documents of 1 to 100 KB, 0.5 GB of them, half as jsonb, half as json;
* ``indexes``: eight tables of 0.2 million rows with 10 indexes each besides the primary key, 13 foreign keys between;
* ``pgbench``: what ``pgbench --initialize --scale=50 --foreign-keys`` makes, with a filled history;
* ``demo``: the demo's CRM, with features that are hard to restore; 7 million rows, a plain dump of 0.9 GB.
"""

from __future__ import annotations

from pathlib import Path

from psycopg import sql

from demo import crm
from lastgood.postgres.server import Connection

SQL = Path(__file__).parent / "sql"
NAMES = ("crm", "giant", "small", "keys-few", "keys", "wide", "indexes", "pgbench", "demo")
DEMO_SCALE = 25.0
DRAWS = "draws"
# Smaller ones of the same kind: the file, and how much of it.
PARTS = {"keys-few": ("keys", 0.12)}


def make(connection: Connection, name: str, scale: float) -> None:
    """Create and analyze a data set in the empty database of ``connection``, which must be a superuser's and in
    autocommit mode. Raises psycopg.Error."""
    if name == "demo":
        crm.create(connection, DEMO_SCALE * scale)
        return
    file, part = PARTS.get(name, (name, 1.0))
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL bench.scale = {}").format(sql.Literal(str(scale * part))))
        connection.execute("SET LOCAL jit = off")
        connection.execute((SQL / f"{DRAWS}.sql").read_bytes())
        connection.execute((SQL / f"{file}.sql").read_bytes())
        connection.execute("DROP SCHEMA bench CASCADE")
    connection.execute("VACUUM ANALYZE")
