"""Rows brought back after a rollback: 100,000 new rows, each with new parents in three tables.

`lastgood salvage apply` as a user runs it, the start of Python and the comparison with the restore point included. The
restored database has as many rows already. Each round is undone by `lastgood salvage undo`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import host, measure
from bench.measure import Series
from bench.results import Lines
from lastgood.postgres.embedded import EmbeddedServer

ROWS, PARENTS = 100_000, 10_000
GOAL = 10.0
SCHEMA = """
CREATE TABLE public.customers (id bigserial PRIMARY KEY, name text);
CREATE TABLE public.products (id bigserial PRIMARY KEY, name text UNIQUE);
CREATE TABLE public.places (id bigserial PRIMARY KEY, name text);
CREATE TABLE public.orders (id bigserial PRIMARY KEY, customer bigint NOT NULL REFERENCES public.customers,
  product bigint NOT NULL REFERENCES public.products, place bigint NOT NULL REFERENCES public.places,
  note text, made timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON public.orders (customer);
"""
# Several transactions: a single one of so many rows would count as the migration's.
WRITE = """
DO $$ BEGIN
  FOR batch IN 0 .. {rows} / 90 LOOP
    INSERT INTO public.customers (name) SELECT 'customer ' || i FROM generate_series(1, 9) i;
    INSERT INTO public.products (name) SELECT 'product {set} ' || batch || ' ' || i FROM generate_series(1, 9) i;
    INSERT INTO public.places (name) SELECT 'place ' || i FROM generate_series(1, 9) i;
    INSERT INTO public.orders (customer, product, place, note)
      SELECT currval('public.customers_id_seq') - i % 9, currval('public.products_id_seq') - i % 9,
             currval('public.places_id_seq') - i % 9, 'note of the order ' || i FROM generate_series(1, 90) i;
    COMMIT;
  END LOOP;
END $$
"""


def measured(scale: float, major: int, rounds: int, log: Callable[[str], None]) -> Lines:
    """Measure the salvage, and its undo."""
    rows = round(ROWS * scale)
    with (
        tempfile.TemporaryDirectory(prefix="lastgood-bench-") as name,
        EmbeddedServer(major, settings=host.SETTINGS) as server,
    ):
        folder = Path(name)
        host.create(server, "orders")
        common = ["--db", server.url("orders"), "--store", f"{folder}/backups", "--state", f"{folder}/state", "--quiet"]

        def lastgood(*arguments: str) -> measure.Run:
            return measure.run([sys.executable, "-m", "lastgood", *arguments, *common])

        with server.target("orders").connect() as connection:
            connection.execute(SCHEMA.encode())
            connection.execute(WRITE.format(rows=rows, set="old").encode())
            lastgood("backup")
            connection.execute(WRITE.format(rows=rows, set="new").encode())
        lastgood("rollback", "--yes")
        found: dict[str, list[measure.Run]] = {"salvage": [], "undo": []}
        for number in range(rounds):
            log(f"round {number + 1} of {rounds}: salvage of {rows:,} rows")
            found["salvage"].append(lastgood("salvage", "apply", "--yes"))
            found["undo"].append(lastgood("salvage", "undo", "--yes"))
        with server.target("orders").connect() as connection:
            (left,) = connection.execute("SELECT count(*) FROM public.orders").fetchone() or (0,)
            assert left <= rows + 90, "the undo left rows"
    peak = max(one.peak for one in found["salvage"]) / (1 << 20)
    return Lines(
        how=f"{rows:,} new rows, each with new parents in three tables, into a database of as many; {rounds} rounds.",
        rows=(
            (
                f"salvage apply of {rows:,} rows with parents",
                _series(found["salvage"]).text("s", 1),
                f"goal ≤ {GOAL:.0f} s at {ROWS:,} rows; peak memory {peak:.0f} MiB",
            ),
            ("salvage undo of the same", _series(found["undo"]).text("s", 1), ""),
        ),
    )


def _series(found: list[measure.Run]) -> Series:
    return Series(tuple(one.seconds for one in found))
