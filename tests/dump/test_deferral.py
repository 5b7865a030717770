"""What of a dump can wait: from real dumps, in exactly the words that are run later."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import pytest

from lastgood.dump.deferral import Deferrable, Division
from lastgood.dump.deferred_task import DeferredTask
from lastgood.dump.names import Relation
from lastgood.dump.reader import read
from lastgood.dump.script import Script, ScriptStep
from lastgood.dump.statements import Kind
from lastgood.postgres.embedded import EmbeddedServer
from tests.support import deferrable_objects
from tests.support.real_dumps import Text, dumped

ALL = pytest.mark.postgres(15, 16, 17, 18)
HEAD = b"""--
-- PostgreSQL database dump
--

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);

CREATE TABLE public.p (id integer NOT NULL, u integer);
CREATE TABLE public.t (id integer NOT NULL, p integer, q integer, body text);
ALTER TABLE ONLY public.p ADD CONSTRAINT p_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.t ADD CONSTRAINT t_pkey PRIMARY KEY (id);
"""
FOOT = b"""
--
-- PostgreSQL database dump complete
--

"""


def script_of(text: bytes) -> Script:
    reading = read(Text(text))
    for _ in reading.summary.script.recording(reading):
        pass
    return reading.summary.script


def divided(text: bytes, in_use: Collection[Relation] = ()) -> Division:
    return Deferrable.of(script_of(text)).divide(in_use)


def of(statements: str, in_use: Collection[Relation] = ()) -> Division:
    return divided(HEAD + statements.encode() + FOOT, in_use)


def names(division: Division) -> list[str]:
    return [str(later) for later in division.later]


@pytest.fixture
def dump(server: EmbeddedServer, new_database: Callable[..., str]) -> Callable[..., bytes]:
    name = new_database("shop")
    deferrable_objects.fill(server, name)
    return lambda *options: deferrable_objects.dump(server, name, *options)


WORK = {
    "index shop.cities_n": ["CREATE INDEX CONCURRENTLY cities_n ON shop.cities USING btree (n)"],
    "index shop.customer_born": [
        "CREATE INDEX CONCURRENTLY customer_born ON shop.customer USING btree (born DESC NULLS LAST) INCLUDE (city) "
        "WITH (fillfactor='70') WHERE (born > '1961-01-01'::date)"
    ],
    "index shop.customer_city": [
        "CREATE INDEX CONCURRENTLY customer_city ON shop.customer USING btree (city)",
        "COMMENT ON INDEX shop.customer_city IS 'It''s -- for the\nmap; CREATE INDEX'",
    ],
    "index shop.customer_upper": [
        "CREATE INDEX CONCURRENTLY customer_upper ON shop.customer USING btree (upper(email), ((born + 1)))",
        "ALTER TABLE shop.customer CLUSTER ON customer_upper",
        "ALTER INDEX shop.customer_upper ALTER COLUMN 1 SET STATISTICS 300",
    ],
    "index shop.customer_words": [
        "CREATE INDEX CONCURRENTLY customer_words ON shop.customer USING gin (to_tsvector('english'::regconfig, note))"
    ],
    "index shop.elsewhere_x": ["CREATE INDEX CONCURRENTLY elsewhere_x ON shop.elsewhere USING btree (x)"],
    "index shop.event_2_own": ["CREATE INDEX CONCURRENTLY event_2_own ON shop.event_2 USING btree (day)"],
    "index shop.line_order_only": ["CREATE INDEX CONCURRENTLY line_order_only ON shop.line USING btree (order_id)"],
    'index shop."order; state"': [
        'CREATE INDEX CONCURRENTLY "order; state" ON shop."order" USING hash (state)',
    ],
    "index shop.order_customer_made": [
        'CREATE INDEX CONCURRENTLY order_customer_made ON shop."order" USING btree (customer_id, made)'
    ],
    "index shop.order_made": ['CREATE INDEX CONCURRENTLY order_made ON shop."order" USING brin (made)'],
    'foreign key "own ä" on "Od""d"."T; ä"': ['ALTER TABLE "Od""d"."T; ä" VALIDATE CONSTRAINT "own ä"'],
    "foreign key line_order on shop.line": ["ALTER TABLE shop.line VALIDATE CONSTRAINT line_order"],
    'foreign key order_customer_id_fkey on shop."order"': [
        'ALTER TABLE shop."order" VALIDATE CONSTRAINT order_customer_id_fkey'
    ],
}
REWRITTEN = [
    'ALTER TABLE ONLY "Od""d"."T; ä"\n    ADD CONSTRAINT "own ä" FOREIGN KEY (f) REFERENCES "Od""d"."T; ä"(e) '
    "ON UPDATE SET NULL NOT VALID",
    'ALTER TABLE ONLY shop.line\n    ADD CONSTRAINT line_order FOREIGN KEY (order_id) REFERENCES shop."order"(id) '
    "DEFERRABLE INITIALLY DEFERRED NOT VALID",
    'ALTER TABLE ONLY shop."order"\n    ADD CONSTRAINT order_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES '
    "shop.customer(id) ON DELETE CASCADE NOT VALID",
]


@ALL
@pytest.mark.parametrize("options", [(), ("--no-owner", "--no-acl"), ("--use-set-session-authorization",)])
def test_what_waits_of_a_real_dump(dump: Callable[..., bytes], options: tuple[str, ...]) -> None:
    script = script_of(dump(*options))
    division = Deferrable.of(script).divide(())
    assert {str(later): list(later.statements) for later in division.later} == WORK
    assert all(later.is_allowed for later in division.later)
    before = {item.command.statement.text for item in script.items if isinstance(item, ScriptStep)}
    now = [item.command.statement.text for item in division.immediate(script).items if isinstance(item, ScriptStep)]
    assert [text.decode() for text in now if text not in before] == REWRITTEN
    assert len(before) - len(now) == sum(len(work) for name, work in WORK.items() if name.startswith("index"))


def test_since_18_keys_of_partitioned_tables_wait_too(dump: Callable[..., bytes]) -> None:
    script = script_of(dump())
    assert set(names(Deferrable.of(script).divide((), server_major=18))) - set(WORK) == {
        "foreign key event_customer_fkey on shop.event",
        "foreign key seen_event_day_fkey on shop.seen",
    }
    assert set(names(Deferrable.of(script).divide((), server_major=17))) == set(WORK)


@ALL
def test_an_index_in_use_does_not_wait_nor_do_commands_about_it(dump: Callable[..., bytes]) -> None:
    script = script_of(dump())
    division = Deferrable.of(script).divide([Relation("shop", "customer_city"), Relation("shop", "customer_upper")])
    assert set(names(division)) == set(WORK) - {"index shop.customer_city", "index shop.customer_upper"}
    texts = b"\n".join(
        item.command.statement.text for item in division.immediate(script).items if isinstance(item, ScriptStep)
    )
    for words in (
        b"CREATE INDEX customer_city ON",
        b"COMMENT ON INDEX shop.customer_city",
        b"CLUSTER ON customer_upper",
    ):
        assert words in texts


@pytest.mark.postgres(18)
def test_dumped_statistics_of_an_index_go_with_it(dump: Callable[..., bytes]) -> None:
    script = script_of(dump("--statistics"))
    division = Deferrable.of(script).divide(())
    assert {str(later): list(later.statements) for later in division.later} == WORK
    calls = [
        item.command.statement.text
        for item in division.immediate(script).items
        if isinstance(item, ScriptStep) and item.command.kind is Kind.STATISTICS_CALL
    ]
    assert any(b"'customer_email'" in call for call in calls)
    assert not any(index.name.encode() in call for call in calls for index in division.indexes)


@ALL
def test_every_other_awkward_database_is_divided_without_a_word_changed(server: EmbeddedServer) -> None:
    script = script_of(dumped(server))
    division = Deferrable.of(script).divide(())
    assert sorted(names(division)) == [
        "foreign key f1_o_fkey on s1.f1",
        "foreign key f2_o_fkey on s1.f2",
    ]


def test_what_an_application_can_not_do_without_never_waits() -> None:
    division = of("""
        CREATE UNIQUE INDEX a ON public.t USING btree (p);
        ALTER TABLE ONLY public.t ADD CONSTRAINT b UNIQUE (q);
        ALTER TABLE ONLY public.t ADD CONSTRAINT c EXCLUDE USING gist (q WITH =);
        CREATE UNIQUE INDEX d ON public.t USING btree (lower(body)) WHERE (p > 3);
        ALTER TABLE ONLY public.t REPLICA IDENTITY USING INDEX a;
    """)
    assert division.later == ()
    assert division.immediate(Script()).items == []


def test_partitioned_indexes_and_their_parts_never_wait() -> None:
    division = of("""
        CREATE TABLE public.m (id integer NOT NULL, d date) PARTITION BY RANGE (d);
        CREATE TABLE public.m1 (id integer NOT NULL, d date);
        ALTER TABLE ONLY public.m ATTACH PARTITION public.m1 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        CREATE INDEX m_d ON ONLY public.m USING btree (d);
        CREATE INDEX m_whole ON public.m USING btree (id);
        CREATE INDEX m1_d ON public.m1 USING btree (d);
        CREATE INDEX m1_own ON public.m1 USING btree (id);
        ALTER INDEX public.m_d ATTACH PARTITION public.m1_d;
        ALTER TABLE public.m ADD CONSTRAINT from_whole FOREIGN KEY (id) REFERENCES public.p(id);
        ALTER TABLE ONLY public.t ADD CONSTRAINT to_whole FOREIGN KEY (p) REFERENCES public.m(id);
    """)
    assert names(division) == ["index public.m1_own"]


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER INDEX public.i DEPENDS ON EXTENSION e",
        "ALTER TABLE public.t CLUSTER ON i, ALTER COLUMN p SET STATISTICS 5",
        "ALTER TABLE ONLY public.t REPLICA IDENTITY USING INDEX i",
        "COMMENT ON INDEX i IS 'which schema?'",
    ],
)
def test_an_index_with_other_commands_does_not_wait(statement: str) -> None:
    assert names(of("CREATE INDEX i ON public.t USING btree (q);")) == ["index public.i"]
    assert names(of(f"CREATE INDEX i ON public.t USING btree (q); {statement};")) == []


KEY = "ALTER TABLE ONLY public.t ADD CONSTRAINT k FOREIGN KEY (p) REFERENCES public.p(id);"


@pytest.mark.parametrize(
    ("indexes", "kept"),
    [
        (["(p)"], {"i0"}),
        (["(p, q)", "(p)", "(p, q, id)"], {"i1"}),
        (["(q, p)"], set()),
        (["(p) WHERE (q > 1)"], set()),
        (["(abs(p))", "(p, abs(q))"], {"i1"}),
    ],
)
def test_the_index_of_a_foreign_key_does_not_wait(indexes: list[str], kept: set[str]) -> None:
    made = "".join(f"CREATE INDEX i{n} ON public.t USING btree {each};" for n, each in enumerate(indexes))
    division = of(made + KEY)
    assert {f"i{n}" for n in range(len(indexes))} - {index.name for index in division.indexes} == kept
    assert names(division)[-1] == "foreign key k on public.t"


def test_a_key_of_two_columns_takes_an_index_with_them_in_any_order() -> None:
    pair = "ALTER TABLE ONLY public.t ADD CONSTRAINT k FOREIGN KEY (p, q) REFERENCES public.p(id, u);"
    made = "CREATE INDEX i ON public.t USING btree (p, id); CREATE INDEX j ON public.t USING btree (q, p, id);"
    assert [index.name for index in of(made + pair).indexes] == ["i"]
    unique = "ALTER TABLE ONLY public.t ADD CONSTRAINT u UNIQUE (q, p, id);"
    assert [index.name for index in of(made + unique + pair).indexes] == ["i", "j"]


def test_an_index_that_reads_no_ranges_serves_no_foreign_key() -> None:
    assert names(of("CREATE INDEX i ON public.t USING brin (p);" + KEY))[0] == "index public.i"
    assert names(of("CREATE INDEX i ON public.t USING hash (p);" + KEY)) == ["foreign key k on public.t"]


@pytest.mark.parametrize(
    "key",
    [
        "FOREIGN KEY (p) REFERENCES public.p(id) NOT VALID",
        "FOREIGN KEY (p) REFERENCES public.p(id) NOT ENFORCED",
        "FOREIGN KEY (p) REFERENCES public.elsewhere(id)",
    ],
)
def test_keys_that_are_left_as_they_are(key: str) -> None:
    script = script_of(HEAD + f"ALTER TABLE ONLY public.t ADD CONSTRAINT k {key};".encode() + FOOT)
    division = Deferrable.of(script).divide(())
    assert division.later == ()
    assert division.immediate(script) == script


def test_a_key_between_comments_gets_its_words_where_they_count() -> None:
    script = script_of(
        HEAD + b"ALTER TABLE ONLY public.t /* NOT VALID */ ADD CONSTRAINT k FOREIGN KEY (p) REFERENCES "
        b"public.p(id) /* the ; end */ -- of it\n;" + FOOT
    )
    division = Deferrable.of(script).divide(())
    (text,) = [
        item.command.statement.text.decode()
        for item in division.immediate(script).items
        if isinstance(item, ScriptStep) and item.command.kind is Kind.FOREIGN_KEY
    ]
    assert text.startswith(
        "ALTER TABLE ONLY public.t /* NOT VALID */ ADD CONSTRAINT k FOREIGN KEY (p) REFERENCES public.p(id) NOT VALID"
    )


@pytest.mark.parametrize(
    ("index", "waits"),
    [
        ("USING btree (lower(body))", True),
        ("USING btree (pg_catalog.lower(body))", True),
        ("USING btree (public.norm(body))", False),
        ("USING btree (q) WHERE (length(public.norm(body)) > 3)", False),
        ("USING gin (to_tsvector('english'::regconfig, body))", True),
    ],
)
def test_an_index_that_calls_the_users_functions_does_not_wait(index: str, waits: bool) -> None:
    """They may read what is not on the search path, and then it is the load that knows what to do."""
    assert (of(f"CREATE INDEX i ON public.t {index};").indexes != ()) is waits


def test_no_key_waits_where_rows_without_a_match_are_allowed() -> None:
    script = script_of(HEAD + KEY.encode() + FOOT)
    assert names(Deferrable.of(script).divide(())) == ["foreign key k on public.t"]
    assert Deferrable.of(script).divide((), keys_too=False).later == ()


def test_names_that_look_like_words_of_the_language() -> None:
    division = of('CREATE INDEX "INDEX" ON public.t USING btree (q);CREATE INDEX concurrently_ ON public.t (body);')
    assert [later.statements for later in division.later] == [
        ('CREATE INDEX CONCURRENTLY "INDEX" ON public.t USING btree (q)',),
        ("CREATE INDEX CONCURRENTLY concurrently_ ON public.t (body)",),
    ]


def test_the_session_of_an_index_is_the_dumps() -> None:
    """Dumps of 10.2 and older set the search path for each schema and do not qualify names."""
    division = of("""
        SET search_path = public, pg_catalog;
        SET default_tablespace = fast;
        CREATE INDEX i ON t USING btree (q);
        SET default_tablespace = '';
        CREATE INDEX j ON t USING btree (body);
    """)
    common = ("SET standard_conforming_strings = on", "SET search_path = public, pg_catalog")
    assert [(str(later), later.settings) for later in division.later] == [
        ("index public.i", (*common, "SET default_tablespace = fast")),
        ("index public.j", (*common, "SET default_tablespace = ''")),
    ]
    assert all(later.is_allowed for later in division.later)


def later(*statements: str, settings: tuple[str, ...] = ()) -> DeferredTask:
    return DeferredTask(Kind.INDEX, Relation("public", "t"), "i", settings, statements)


@pytest.mark.parametrize(
    "hostile",
    [
        later("DROP TABLE public.t"),
        later("CREATE INDEX CONCURRENTLY i ON public.t (q); DROP TABLE public.t"),
        later("CREATE UNIQUE INDEX CONCURRENTLY i ON public.t (q)"),
        later("CREATE INDEX i ON public.t (q)"),
        later("COMMENT ON ROLE postgres IS ''"),
        later("ALTER TABLE public.t OWNER TO mallory"),
        later("ALTER TABLE public.t CLUSTER ON i, DISABLE ROW LEVEL SECURITY"),
        later("CREATE INDEX CONCURRENTLY i ON public.t (evil(q), public.evil(q))"),
        later("CREATE INDEX CONCURRENTLY i ON public.other (q)"),
        later("CREATE INDEX CONCURRENTLY i ON public.t (q)", "ALTER TABLE public.t VALIDATE CONSTRAINT c"),
        later("ALTER TABLE public.t VALIDATE CONSTRAINT i"),
        later(
            "CREATE INDEX CONCURRENTLY i ON public.t (q)", settings=("SET search_path = 'a\\', '; SELECT evil(); --'",)
        ),
        later(
            "CREATE INDEX CONCURRENTLY i ON public.t (q) WHERE q <> 'a\\'",
            settings=("SET standard_conforming_strings = off",),
        ),
        replace(later("ALTER TABLE public.t VALIDATE CONSTRAINT c"), kind=Kind.FOREIGN_KEY),
        replace(later("ALTER TABLE public.other VALIDATE CONSTRAINT i"), kind=Kind.FOREIGN_KEY),
        later("SELECT pg_catalog.pg_restore_relation_stats('relname', 't'), evil()"),
        later("CREATE INDEX CONCURRENTLY j ON public.t (q)"),
        later("CREATE INDEX CONCURRENTLY i ON public.u (q)"),
        later("CREATE INDEX CONCURRENTLY i ON public.t (q)", "ALTER TABLE public.t VALIDATE CONSTRAINT c"),
        DeferredTask(
            Kind.FOREIGN_KEY, Relation("public", "t"), "k", (), ("ALTER TABLE public.t VALIDATE CONSTRAINT c",)
        ),
        DeferredTask(Kind.FOREIGN_KEY, Relation("public", "t"), "k", (), ("ALTER TABLE t VALIDATE CONSTRAINT k",)),
        later("no SQL at all"),
        later("ALTER TABLE public.t CLUSTER ON i", settings=("SET role = postgres",)),
        later("ALTER TABLE public.t CLUSTER ON i", settings=("SET session_authorization = postgres",)),
        later("ALTER TABLE public.t CLUSTER ON i", settings=("SELECT evil()",)),
        later("ALTER TABLE public.t CLUSTER ON i", settings=("SET search_path = ''; SELECT evil()",)),
    ],
    ids=lambda item: (*item.settings, *item.statements)[0][:40],
)
def test_a_list_with_anything_else_on_it_is_not_run(hostile: DeferredTask) -> None:
    assert not hostile.is_allowed


CODE = """
CREATE INDEX t_q ON public.t USING btree (q);
CREATE INDEX t_body ON public.t USING btree (body) WHERE public.f(q);
CREATE INDEX p_u ON public.p USING btree (u);
ALTER TABLE ONLY public.t ADD CONSTRAINT k FOREIGN KEY (p) REFERENCES public.p(id);
"""


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", ["index public.p_u"]),
        ("CREATE STATISTICS public.s ON public.f(u), u FROM public.p;", []),
        ("CREATE CAST (integer AS public.c) WITH FUNCTION public.f(integer);", []),
        ("ALTER EVENT TRIGGER e ENABLE ALWAYS;", []),
    ],
)
def test_work_that_runs_code_of_the_dump_is_not_deferred_for_the_operator(more: str, expected: list[str]) -> None:
    script = script_of(HEAD + (CODE + more).encode() + FOOT)
    assert names(Deferrable.of(script, confined=True).divide(())) == expected
    assert "index public.t_q" in names(Deferrable.of(script).divide(()))
