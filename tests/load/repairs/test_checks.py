"""Checks that call functions: put off until the rows are there, and back exactly as they were."""

from __future__ import annotations

import pytest

from lastgood.events import Caution
from lastgood.load.repairs import Rules
from tests.load.repairs.stage import Stage, repaired

MAJORS = (15, 16, 17, 18)
LATER = """
CREATE FUNCTION public.known(i integer) RETURNS boolean LANGUAGE sql STABLE
    AS $$SELECT EXISTS (SELECT FROM {lookup} l WHERE l.id = i)$$;
CREATE TABLE public.aaa (id integer, CONSTRAINT known_id CHECK (public.known(id)));
COMMENT ON CONSTRAINT known_id ON public.aaa IS 'see lookup';
CREATE TABLE public.lookup (id integer);
COPY public.aaa (id) FROM stdin;
1
\\.
COPY public.lookup (id) FROM stdin;
{id}
\\.
ALTER TABLE ONLY public.lookup ADD CONSTRAINT lookup_pkey PRIMARY KEY (id);
"""
CONSTRAINT = """
SELECT conname, convalidated, conislocal, coninhcount::int, obj_description(oid, 'pg_constraint')
FROM pg_constraint WHERE conname = '{}' ORDER BY conrelid, contypid
"""


@pytest.mark.postgres(*MAJORS)
def test_a_check_that_reads_rows_which_come_later(stage: Stage) -> None:
    loaded = stage.load(LATER.format(lookup="public.lookup", id=1))
    assert stage.rows(CONSTRAINT.format("known_id")) == [("known_id", True, True, 0, "see lookup")]
    assert repaired(loaded) == []
    assert stage.rows("SELECT id FROM public.aaa") == [(1,)]


@pytest.mark.postgres(*MAJORS)
def test_a_check_that_names_a_table_without_its_schema(stage: Stage) -> None:
    loaded = stage.load(LATER.format(lookup="lookup", id=1))
    assert stage.rows(CONSTRAINT.format("known_id")) == [("known_id", True, True, 0, "see lookup")]
    why = 'a function that it calls uses unqualified names; checked with the search path "$user", public'
    assert repaired(loaded) == [("check constraint known_id on public.aaa", why)]
    assert stage.cautions[-1] == Caution(
        f"check constraint known_id on public.aaa (line 16) was not loaded unchanged: {why}"
    )


@pytest.mark.postgres(15, 18)
def test_a_violated_check_stays_not_valid_and_is_reported(stage: Stage) -> None:
    loaded = stage.load(LATER.format(lookup="public.lookup", id=7))
    assert stage.rows(CONSTRAINT.format("known_id")) == [("known_id", False, True, 0, "see lookup")]
    assert [(each.what, each.why, each.line) for each in loaded.repaired] == [
        (
            "check constraint known_id on public.aaa",
            "rows violate it; it was left NOT VALID, and applies to new rows only",
            16,
        )
    ]


@pytest.mark.postgres(15, 18)
def test_strict_puts_no_check_off(stage: Stage) -> None:
    message, hint = stage.fails(LATER.format(lookup="lookup", id=1), Rules(strict=True))
    offset = (stage.folder / "good.sql").read_text().index("1\n\\.\nCOPY public.lookup")
    assert message == (
        f'cannot load line 20 of "good.sql" (byte {offset}, rows of public.aaa): '
        'relation "lookup" does not exist [SQLSTATE 42P01]'
    )
    assert hint == (
        "A check constraint or a trigger reads a table that is loaded later. "
        "Run lastgood points to choose another restore point."
    )


@pytest.mark.postgres(*MAJORS)
def test_a_check_of_a_domain(stage: Stage) -> None:
    stage.load(
        """
CREATE FUNCTION public.known(i integer) RETURNS boolean LANGUAGE sql STABLE
    AS $$SELECT EXISTS (SELECT FROM public.lookup l WHERE l.id = i)$$;
CREATE DOMAIN public.key AS integer CONSTRAINT known_key CHECK (public.known(VALUE));
COMMENT ON CONSTRAINT known_key ON DOMAIN public.key IS 'see lookup';
CREATE TABLE public.aaa (id public.key);
CREATE TABLE public.lookup (id integer);
COPY public.aaa (id) FROM stdin;
1
\\.
COPY public.lookup (id) FROM stdin;
1
\\.
"""
    )
    assert stage.rows(CONSTRAINT.format("known_key")) == [("known_key", True, True, 0, "see lookup")]


@pytest.mark.postgres(*MAJORS)
def test_children_and_partitions_get_back_what_they_inherit_and_what_is_theirs(stage: Stage) -> None:
    text = """
CREATE FUNCTION public.fine(i integer) RETURNS boolean LANGUAGE sql AS $$SELECT i > 0$$;
CREATE FUNCTION public.smaller(a integer, b integer) RETURNS boolean LANGUAGE sql AS $$SELECT a < b$$;
CREATE OPERATOR public.<<< (FUNCTION = public.smaller, LEFTARG = integer, RIGHTARG = integer);
CREATE TABLE public.par (id integer, CONSTRAINT fine CHECK (public.fine(id)));
CREATE TABLE public.chi (CONSTRAINT small CHECK (id OPERATOR(public.<<<) 9)) INHERITS (public.par);
CREATE TABLE public.chi_too (id integer, CONSTRAINT fine CHECK (public.fine(id))) INHERITS (public.par);
CREATE TABLE public.parted (id integer, CONSTRAINT fine CHECK (public.fine(id))) PARTITION BY RANGE (id);
CREATE TABLE public.part (id integer, CONSTRAINT fine CHECK (public.fine(id)));
ALTER TABLE ONLY public.parted ATTACH PARTITION public.part FOR VALUES FROM (1) TO (9);
"""
    query = """
SELECT conrelid::regclass::text, conname, convalidated, conislocal, coninhcount::int, pg_get_constraintdef(oid)
FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0 ORDER BY 1, 2
"""
    stage.load(text)
    before = stage.rows(query)
    stage.execute("DROP TABLE public.par CASCADE", "DROP TABLE public.parted", "DROP OPERATOR public.<<< (int, int)")
    stage.execute("DROP FUNCTION public.fine", "DROP FUNCTION public.smaller")
    stage.load(text + "COPY public.chi (id) FROM stdin;\n1\n\\.\n")
    assert stage.rows(query) == before
    assert len(before) == 6
