"""Counts from the text of COPY are those of queries."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from lastgood.facts import Facts
from lastgood.facts.of_database import facts_at
from lastgood.loss import tables
from lastgood.loss.tables import Then, counted, listing
from lastgood.postgres.embedded import EmbeddedServer

ROWS = """
CREATE TABLE public.zoned (id int, created_at timestamptz);
CREATE TABLE public.local (created_at timestamp, id int);
CREATE TABLE public.undated (id int);
CREATE TABLE public.without_columns ();
CREATE TABLE public.empty (created_at timestamptz);
INSERT INTO public.zoned SELECT i, now() - i * interval '1 hour' FROM generate_series(-50, 50) i;
INSERT INTO public.zoned VALUES (0, NULL), (0, 'infinity'), (0, '-infinity'), (0, '0044-03-15 BC'), (0, '1969-12-31');
INSERT INTO public.local SELECT created_at AT TIME ZONE 'UTC', id FROM public.zoned;
INSERT INTO public.undated SELECT generate_series(1, 7);
INSERT INTO public.without_columns DEFAULT VALUES;
"""


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("with_facts", [True, False])
def test_both_ways_count_alike(
    server: EmbeddedServer,
    new_database: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    exact: bool,
    with_facts: bool,
) -> None:
    target = server.target(new_database("app"))
    with target.connect() as connection:
        connection.execute(ROWS.encode())
        facts: Facts | None = facts_at(target) if with_facts else None
        connection.execute("INSERT INTO public.zoned SELECT i, now() + i * interval '1 s' FROM generate_series(1, 5) i")
        connection.execute("SET TimeZone = 'UTC'")
        now = datetime.now(UTC)
        points = [Then(facts, now - timedelta(hours=hours), exact) for hours in (0, 3, 1000)]
        both = []
        with connection.transaction():  # one present for both
            for only_copy in (False, True):
                found, stamps = listing(connection)
                every = frozenset(found) if only_copy else frozenset[tuple[str, str]]()
                monkeypatch.setattr(tables, "not_to_query", lambda _, every=every: every)
                both.append(
                    counted(
                        connection, found, stamps, points, shut=(), seconds=lambda: 60.0, trouble=lambda key, error: "?"
                    )
                )
        assert both[0] == both[1]
        assert both[0]["public", "zoned"].rows == 111
