"""Rows without a match: reported with their number and keys, and accepted if the operator allows it."""

from __future__ import annotations

import pytest

from lastgood.events import Caution
from lastgood.load.repairs import Rules
from tests.load.repairs.stage import Stage, repaired

MAJORS = (15, 16, 17, 18)
ORPHANS = """
CREATE TABLE public.p (id integer NOT NULL);
CREATE TABLE public.c (id integer, p integer){partitioned};
COPY public.p (id) FROM stdin;
1
\\.
COPY public.c (id, p) FROM stdin;
1	1
2	7
3	8
\\.
ALTER TABLE ONLY public.p ADD CONSTRAINT p_pkey PRIMARY KEY (id);
ALTER TABLE {only}public.c
    ADD CONSTRAINT "Of P" FOREIGN KEY (p) REFERENCES public.p(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;
"""
WHOLE = ORPHANS.format(partitioned="", only="ONLY ")
MESSAGE = (
    'cannot load line 25 of "good.sql" (byte 513, foreign key "Of P" on public.c): '
    'insert or update on table "c" violates foreign key constraint "Of P" [SQLSTATE 23503]'
    "; 2 rows have no match in public.p, for example 7, 8"
)
HINT = (
    "Rows refer to rows that the restore point lacks: it was already inconsistent when it was made. Run lastgood "
    "points to choose another restore point. Or allow it: with --allow-orphans the key is added NOT VALID."
)


@pytest.mark.postgres(*MAJORS)
def test_orphans_stop_the_load(stage: Stage) -> None:
    assert stage.fails(WHOLE) == (MESSAGE, HINT)
    assert stage.rows("SELECT conname FROM pg_constraint WHERE contype = 'f'") == []


@pytest.mark.postgres(*MAJORS)
def test_orphans_that_are_allowed(stage: Stage) -> None:
    loaded = stage.load(WHOLE, Rules(allow_orphans=True))
    why = "2 rows have no match in public.p, for example 7, 8; it was added NOT VALID, and applies to new rows only"
    assert repaired(loaded) == [('foreign key "Of P" on public.c', why)]
    assert stage.cautions[-1] == Caution(f'foreign key "Of P" on public.c (line 25) was not loaded unchanged: {why}')
    assert stage.rows("SELECT convalidated, condeferred, confdeltype FROM pg_constraint WHERE conname = 'Of P'") == [
        (False, True, "c")
    ]


def test_strict_allows_no_orphans(stage: Stage) -> None:
    hint = HINT.partition(" Or allow it")[0]
    assert stage.fails(WHOLE, Rules(strict=True, allow_orphans=True)) == (MESSAGE, hint)


@pytest.mark.postgres(15, 17, 18)
def test_a_partitioned_table_can_have_orphans_from_18_on(stage: Stage) -> None:
    text = ORPHANS.format(partitioned=" PARTITION BY RANGE (id)", only="").replace(
        "COPY public.p (id)",
        "CREATE TABLE public.c_1 PARTITION OF public.c FOR VALUES FROM (0) TO (9);\nCOPY public.p (id)",
    )
    if stage.server.major >= 18:
        assert len(stage.load(text, Rules(allow_orphans=True)).repaired) == 1
    else:
        message, _ = stage.fails(text, Rules(allow_orphans=True))
        assert message.endswith('violates foreign key constraint "Of P" [SQLSTATE 23503]')
