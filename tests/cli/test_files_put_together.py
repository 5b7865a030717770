"""Definitions and rows, dumped apart and written into one file one after the other: a restore point like any other."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.support.same_database import assert_same_text, dump

# The keys refer forwards and backwards, so that no order of the tables alone helps.
SHOP = """
CREATE TABLE public.orders (id int PRIMARY KEY, customer int, replaces int REFERENCES public.orders);
CREATE TABLE public.customers (id int PRIMARY KEY, last_order int REFERENCES public.orders, name text NOT NULL);
INSERT INTO public.orders VALUES (1, 7, NULL), (2, 7, 1), (3, 8, 2);
INSERT INTO public.customers VALUES (7, 2, 'Ann'), (8, 3, 'Bo');
ALTER TABLE public.orders ADD FOREIGN KEY (customer) REFERENCES public.customers;
CREATE FUNCTION public.no_more() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no more'; END$$;
CREATE TRIGGER no_more BEFORE INSERT ON public.orders FOR EACH ROW EXECUTE FUNCTION public.no_more();
CREATE SEQUENCE public.numbers;
SELECT setval('public.numbers', 42);
"""
PARTS = (
    ("--schema-only", "--data-only"),
    ("--data-only", "--schema-only"),
    ("--section=pre-data", "--section=data", "--section=post-data"),
    ("--schema-only", "--data-only --inserts"),
    ("--schema-only", "--data-only --disable-triggers"),
)


@pytest.fixture
def shop_database(server: EmbeddedServer, new_database: Callable[..., str]) -> str:
    name = new_database("shop")
    with server.target(name).connect() as connection:
        connection.execute(SHOP.encode())
    return name


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize("ending", [".sql", ".sql.gz"])
@pytest.mark.parametrize("parts", PARTS, ids=" then ".join)
def test_it_is_restored_as_its_parts_are(
    server: EmbeddedServer,
    shop_database: str,
    lastgood: Lastgood,
    store: Path,
    tmp_path: Path,
    parts: tuple[str, ...],
    ending: str,
) -> None:
    texts = [dump(server, shop_database, tmp_path / "part", *options.split()).read_bytes() for options in parts]
    # Each part is a gzip member of its own: `cat schema.sql.gz data.sql.gz`.
    made = [gzip.compress(text) for text in texts] if ending.endswith(".gz") else texts
    path = store / f"whole{ending}"
    path.write_bytes(b"".join(made))
    base = ("--db", server.url(shop_database), "--store", str(store))

    verified = lastgood(*base, "points", "verify", path.name)
    assert (verified.status, verified.out) == (0, f"valid: {path.name}\n1 of 1 restore point valid.\n")
    plan = lastgood(*base, "rollback", path.name, "--dry-run", "--json")
    assert (plan.status, [each for each in plan.document["findings"] if each["level"] == "refusal"]) == (0, [])

    restored = lastgood(*base, "restore", path.name, "--into", f"{shop_database}_copy", "--json")
    assert restored.status == 0, restored.out
    assert {table["name"]: table["rows"] for table in restored.document["tables"]} == {"customers": 2, "orders": 3}
    assert_same_text(server, shop_database, f"{shop_database}_copy", tmp_path)
