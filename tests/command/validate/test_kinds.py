"""Each kind of rule: what it finds, and what it must not take for a violation."""

from __future__ import annotations

import pytest

from tests.command.validate.conftest import Stage

ALL = pytest.mark.postgres(15, 16, 17, 18)


@ALL
def test_foreign_keys_of_several_columns_of_itself_and_of_partitions(stage: Stage) -> None:
    stage.run(
        "CREATE TABLE p (a int, b text, PRIMARY KEY (a, b))",
        "CREATE TABLE c (id int PRIMARY KEY, a int, b text)",
        "ALTER TABLE c ADD CONSTRAINT full_one FOREIGN KEY (a, b) REFERENCES p MATCH FULL",
        "CREATE TABLE tree (id int PRIMARY KEY, up int CONSTRAINT up REFERENCES tree)",
        "CREATE TABLE whole (id int PRIMARY KEY, k int CONSTRAINT whole_tree REFERENCES tree) PARTITION BY HASH (id)",
        "CREATE TABLE part PARTITION OF whole FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        "CREATE TABLE of_whole (id int PRIMARY KEY, w int CONSTRAINT to_whole REFERENCES whole)",
        "INSERT INTO p VALUES (1, 'x'); INSERT INTO tree VALUES (1, NULL), (2, 1); INSERT INTO whole VALUES (1, 1)",
        "INSERT INTO c VALUES (1, 1, 'x'), (2, NULL, NULL); INSERT INTO of_whole VALUES (1, 1)",
    )
    assert stage.found() == {}
    stage.run(
        "INSERT INTO c VALUES (3, 1, NULL), (4, 2, 'x')",
        "UPDATE tree SET up = 99 WHERE id = 2",
        "INSERT INTO whole VALUES (2, 77)",
        "INSERT INTO of_whole VALUES (2, 66)",
        behind_its_back=True,
    )
    found = stage.found()
    assert {name: (each.outcome, each.samples) for name, each in found.items()} == {
        "foreign_key:public.c.full_one": ("FAIL", ("id=3, a=1, b=NULL", "id=4, a=2, b=x")),
        "foreign_key:public.of_whole.to_whole": ("FAIL", ("id=2, w=66",)),
        "foreign_key:public.tree.up": ("FAIL", ("id=2, up=99",)),
        "foreign_key:public.whole.whole_tree": ("FAIL", ("id=2, k=77",)),
    }


def test_a_key_that_is_not_valid_and_holds_is_worth_a_note(stage: Stage) -> None:
    stage.run(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (k int)",
        "ALTER TABLE c ADD CONSTRAINT later FOREIGN KEY (k) REFERENCES p NOT VALID",
    )
    found = stage.rule("foreign_key:public.c.later")
    assert (found.outcome, found.message, found.hint) == (
        "PASS",
        "the key is NOT VALID: the server has not checked all rows, but all have a match",
        'Validate it: ALTER TABLE "public"."c" VALIDATE CONSTRAINT "later"',
    )


@ALL
def test_guesses_go_by_names_and_types(stage: Stage) -> None:
    stage.run(
        "CREATE SCHEMA other",
        "CREATE TABLE companies (id bigint PRIMARY KEY)",
        "CREATE TABLE other.people (id uuid PRIMARY KEY)",
        "CREATE TABLE boxes (id int PRIMARY KEY, parent_id int)",
        "CREATE TABLE orders (id int PRIMARY KEY, company_id int, person_id uuid, box_id text, external_id int,"
        " declared_id int REFERENCES boxes, companies_id int)",
        "INSERT INTO companies VALUES (1), (2); INSERT INTO boxes VALUES (1, NULL), (2, 1), (3, 77)",
        "INSERT INTO other.people VALUES ('00000000-0000-0000-0000-000000000001')",
        "INSERT INTO orders VALUES (1, 1, '00000000-0000-0000-0000-000000000001', 'x', 5, 1, 1)",
        "INSERT INTO orders VALUES (2, 9, NULL, 'y', 6, 1, 8)",
    )
    found = {each.name: each for each in stage.verdict("quick", "guessed_key").rules}
    assert {name: each.outcome for name, each in found.items()} == {
        "guessed_key:public.boxes.parent_id": "WARN",
        "guessed_key:public.orders.companies_id": "WARN",
        "guessed_key:public.orders.company_id": "WARN",
        "guessed_key:public.orders.person_id": "PASS",
    }
    one = found["guessed_key:public.orders.company_id"]
    assert (one.guess, one.severity, one.samples) == (True, "warning", ("id=2, company_id=9",))
    assert one.message == (
        "1 row of public.orders has no match for company_id in public.companies (id) (inferred from names: no foreign "
        "key is declared)"
    )
    assert one.hint == (
        'If the column is not a foreign key, add "guessed_key:public.orders.company_id" to "ignore" in [validate].'
    )
    assert stage.verdict("quick", guesses=False).warnings == ()
    stage.run("UPDATE orders SET company_id = 100 + id")
    wrong = stage.rule("guessed_key:public.orders.company_id")
    assert (wrong.outcome, wrong.message) == (
        "SKIPPED",
        "none of the 2 rows has a match, so company_id does not refer to that table",
    )
    assert stage.verdict().complete


@ALL
def test_unique_keys_without_their_index(stage: Stage) -> None:
    stage.run(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b text, c text)",
        "CREATE UNIQUE INDEX plain ON t (a, b)",
        "CREATE UNIQUE INDEX strict ON t (c) NULLS NOT DISTINCT",
        "CREATE UNIQUE INDEX part ON t ((lower(b))) INCLUDE (c) WHERE a > 10",
        "INSERT INTO t VALUES (1, 1, NULL, 'x'), (2, 1, NULL, NULL), (3, 11, 'B', 'y'), (4, 2, 'b', 'z')",
    )
    assert stage.found() == {}
    stage.run(
        "UPDATE pg_index SET indisready = false WHERE indrelid = 't'::regclass AND indisunique",
        "INSERT INTO t VALUES (1, 1, 'q', 'v'), (6, 1, 'q', NULL), (7, 12, 'b', 'w')",
        "UPDATE pg_index SET indisready = true WHERE indrelid = 't'::regclass AND indisunique",
    )
    found = stage.found("unique")
    assert {name: (each.violations, each.samples) for name, each in found.items()} == {
        "unique:public.t.part": (1, ("lower(b)=b (2 times)",)),
        "unique:public.t.plain": (1, ("a=1, b=q (2 times)",)),
        "unique:public.t.strict": (1, ("c=NULL (2 times)",)),
        "unique:public.t.t_pkey": (1, ("id=1 (2 times)",)),
    }
    assert found["unique:public.t.plain"].message == (
        "1 value of (a, b) in public.t occurs more than once, in 2 rows, despite index plain"
    )


def test_exclusion_constraints(stage: Stage) -> None:
    stage.run(
        "CREATE TABLE booking (r int4range, CONSTRAINT apart EXCLUDE USING gist (r WITH &&))",
        "INSERT INTO booking SELECT int4range(i * 10, i * 10 + 5) FROM generate_series(1, 50) i",
        "INSERT INTO booking VALUES (NULL), (NULL)",
    )
    assert stage.found() == {}
    stage.run(
        "UPDATE pg_index SET indisready = false WHERE indexrelid = 'apart'::regclass",
        "INSERT INTO booking VALUES ('[12,13)')",
        "UPDATE pg_index SET indisready = true WHERE indexrelid = 'apart'::regclass",
    )
    found = stage.rule("exclusion:public.booking.apart")
    assert (found.outcome, found.message, found.samples) == (
        "FAIL",
        "1 pair of rows of public.booking violate the exclusion constraint apart",
        ("r=[10,15), and r=[12,13)",),
    )
    stage.run("INSERT INTO booking SELECT int4range(i * 10, i * 10 + 5) FROM generate_series(1000, 5000) i")
    assert stage.rule("exclusion:public.booking.apart").message == (
        "more than 3,000 rows are too many to compare in pairs; the server enforces the constraint for new rows"
    )


@ALL
def test_sequences(stage: Stage) -> None:
    stage.run(
        "CREATE TABLE t (i int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, s smallserial, d int, w serial)",
        "CREATE SEQUENCE down INCREMENT -1 START -1 MINVALUE -1000 MAXVALUE -1; CREATE SEQUENCE round CYCLE",
        "ALTER TABLE t ALTER d SET DEFAULT nextval('down'), ADD UNIQUE (d)",
        "ALTER TABLE t ADD c int DEFAULT nextval('round')",
        "INSERT INTO t (s) VALUES (DEFAULT), (DEFAULT)",
    )
    assert stage.found() == {}
    stage.run(
        "INSERT INTO t (i, s, d, w, c) OVERRIDING SYSTEM VALUE VALUES (3, 1, -3, 9, 100)",
        "SELECT setval('t_s_seq', 30000)",
    )
    found = stage.found("sequence")
    assert {name: (each.outcome, each.message) for name, each in found.items()} == {
        "sequence:public.t.i": (
            "FAIL",
            "the next value of public.t_i_seq is 3, but public.t.i already contains 3: the next row will collide with "
            "an existing one",
        ),
        "sequence:public.t.s": (
            "WARN",
            "public.t_s_seq has used 30,000 of the 32,767 values that fit into public.t.s",
        ),
        "sequence:public.t.d": (
            "FAIL",
            "the next value of public.down is -3, but public.t.d already contains -3: the next row will collide with "
            "an existing one",
        ),
        "sequence:public.t.w": (
            "WARN",
            "the next value of public.t_w_seq is 3, but public.t.w already contains 9: the next row will collide with "
            "an existing one",
        ),
    }
    stage.run(found["sequence:public.t.i"].hint.removeprefix("Reset it: "))
    assert "sequence:public.t.i" not in stage.found("sequence")


@ALL
def test_checks_with_odd_names_null_and_functions(stage: Stage) -> None:
    stage.run(
        "CREATE FUNCTION odd(t anyelement) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'",
        'CREATE TABLE "We""ird" (id int PRIMARY KEY, value int CHECK (value > 0), "Va lue" text)',
        'ALTER TABLE "We""ird" ADD CONSTRAINT whole CHECK (odd("We""ird".*))',
        "CREATE DOMAIN pos AS int CHECK (VALUE > 0); CREATE DOMAIN small AS pos CHECK (VALUE < 10)",
        "CREATE TABLE d (id int PRIMARY KEY, value small, t text)",
        'INSERT INTO "We""ird" VALUES (1, NULL, NULL), (2, 5, NULL); INSERT INTO d VALUES (1, NULL), (2, 5)',
    )
    assert stage.found() == {}
    stage.run(
        "ALTER DOMAIN pos DROP CONSTRAINT pos_check; ALTER DOMAIN small DROP CONSTRAINT small_check",
        "INSERT INTO d VALUES (3, -1), (4, 10)",
        "ALTER DOMAIN pos ADD CONSTRAINT pos_check CHECK (VALUE > 0) NOT VALID",
        "ALTER DOMAIN small ADD CONSTRAINT small_check CHECK (VALUE < 10) NOT VALID",
        'ALTER TABLE "We""ird" ADD CONSTRAINT more CHECK (value > 5) NOT VALID',
    )
    found = stage.found()
    assert {name: (each.outcome, each.samples) for name, each in found.items()} == {
        'check:public.We"ird.more': ("WARN", ("id=2, value=5",)),
        "domain:public.d.value.pos_check": ("WARN", ("id=3, value=-1",)),
        "domain:public.d.value.small_check": ("WARN", ("id=4, value=10",)),
    }
    assert found["domain:public.d.value.small_check"].message == (
        "1 row of public.d has a value in value that violates domain public.small: ((VALUE)::integer < 10); "
        "the constraint is NOT VALID: the server has not checked all rows"
    )


def test_a_check_that_fails_does_not_take_the_others_with_it(stage: Stage) -> None:
    stage.run(
        "CREATE TABLE t (id int PRIMARY KEY, a int)",
        "INSERT INTO t VALUES (1, 0)",
        "ALTER TABLE t ADD CONSTRAINT divides CHECK (1 / a > 0) NOT VALID",
        "ALTER TABLE t ADD CONSTRAINT positive CHECK (a > 0) NOT VALID",
    )
    found = stage.found()
    assert {name: (each.outcome, each.message.partition(";")[0]) for name, each in found.items()} == {
        "check:public.t.divides": ("WARN", "the check failed: division by zero [SQLSTATE 22012]"),
        "check:public.t.positive": ("WARN", "1 row of public.t violates check constraint positive: (a > 0)"),
    }


@pytest.mark.postgres(18)
def test_what_18_brought(stage: Stage) -> None:
    stage.run(
        "CREATE TABLE t (id int PRIMARY KEY, a int, g int GENERATED ALWAYS AS (id + 1) VIRTUAL, during int4range)",
        "INSERT INTO t VALUES (1, NULL), (2, -2)",
        "ALTER TABLE t ADD CONSTRAINT a_there NOT NULL a NOT VALID",
        "ALTER TABLE t ADD CONSTRAINT a_loose CHECK (a > 0) NOT ENFORCED",
        "CREATE TABLE room (id int4range, valid int4range, PRIMARY KEY (id, valid WITHOUT OVERLAPS))",
        "INSERT INTO room VALUES ('[1,2)', '[1,5)'), ('[1,2)', '[5,9)')",
    )
    found = stage.found()
    assert {name: (each.outcome, each.samples) for name, each in found.items()} == {
        "required:public.t.a": ("WARN", ("id=1, a=NULL",)),
        "check:public.t.a_loose": ("WARN", ("id=2, a=-2",)),
    }
    assert stage.rule("exclusion:public.room.room_pkey").outcome == "PASS"


@ALL
def test_inheritance_and_partitions_are_not_reported_twice(stage: Stage) -> None:
    stage.run(
        "CREATE TABLE base (id int PRIMARY KEY, a int CHECK (a > 0)); CREATE TABLE derived () INHERITS (base)",
        "INSERT INTO base VALUES (1, 1); INSERT INTO derived VALUES (1, 1)",
        "CREATE TABLE whole (id int NOT NULL, a int CHECK (a > 0)) PARTITION BY RANGE (id)",
        "CREATE TABLE part PARTITION OF whole (CHECK (a < 100)) FOR VALUES FROM (0) TO (10)",
        "INSERT INTO whole VALUES (1, 1)",
    )
    names = {each.name for each in stage.verdict("full", "check", "required", "unique").rules}
    assert names == {
        "check:public.base.base_a_check",
        "check:public.derived.base_a_check",
        "check:public.whole.whole_a_check",
        "check:public.part.part_a_check",
        "required:public.base",
        "required:public.derived",
        "required:public.whole",
        "unique:public.base.base_pkey",
    }
    assert stage.found() == {}


@ALL
def test_polymorphic_pairs_by_rule_and_by_guess(stage: Stage) -> None:
    stage.run(
        "CREATE TABLE contacts (id bigint PRIMARY KEY); CREATE TABLE sales_deals (id uuid PRIMARY KEY)",
        "CREATE TABLE comments (id int PRIMARY KEY, on_type text, on_id text)",
        "INSERT INTO contacts VALUES (1), (2)",
        "INSERT INTO sales_deals VALUES ('00000000-0000-0000-0000-000000000001')",
        "INSERT INTO comments VALUES (1, 'Contact', '1'), (2, 'Contact', '9'), (3, 'Deal', 'x'),"
        " (4, 'Deal', '00000000-0000-0000-0000-000000000001'), (5, 'Planet', '1'), (6, NULL, '7')",
    )
    guess = stage.found()["guessed_polymorphic:public.comments.on_id"]
    assert (guess.outcome, guess.violations, guess.samples) == ("WARN", 1, ("id=2, on_type=Contact, on_id=9",))
    pair = {
        "table": "public.comments",
        "type_column": "on_type",
        "id_column": "on_id",
        "targets": {"Contact": "public.contacts", "Deal": "public.sales_deals"},
    }
    found = stage.found(polymorphic=[pair])
    assert list(found) == ["polymorphic:public.comments.on_id"]
    one = found["polymorphic:public.comments.on_id"]
    assert (one.outcome, one.violations) == ("FAIL", 3)
    assert one.message == (
        "public.comments: 1 row with on_type Contact has no match in public.contacts; 1 row with on_type Deal has no "
        "match in public.sales_deals; on_type has values that [[validate.polymorphic]] does not name: Planet"
    )
    wrong = {**pair, "targets": {"Contact": "public.persons"}}
    assert stage.rule("polymorphic", polymorphic=[wrong]).message == (
        "there is no table public.persons with a single-column primary key, but [[validate.polymorphic]] in "
        "lastgood.toml names it"
    )


@ALL
def test_indexes_that_cannot_be_used(stage: Stage) -> None:
    stage.run(
        "CREATE TABLE t (id int, CONSTRAINT key UNIQUE (id)); CREATE INDEX plain ON t (id)",
        "CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p DEFAULT",
        "CREATE INDEX half ON ONLY p (id)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid IN ('key'::regclass, 'plain'::regclass)",
    )
    found = stage.found("index")
    assert {name: (each.outcome, each.message, each.hint) for name, each in found.items()} == {
        "index:public.half": (
            "WARN",
            "index public.half of public.p is incomplete: not all partitions have an index",
            "Attach the missing ones with ALTER INDEX … ATTACH PARTITION.",
        ),
        "index:public.key": (
            "FAIL",
            "index public.key of public.t is invalid: queries do not use it",
            'Rebuild it: REINDEX INDEX CONCURRENTLY "public"."key"',
        ),
        "index:public.plain": (
            "WARN",
            "index public.plain of public.t is invalid: queries do not use it",
            'Rebuild it: REINDEX INDEX CONCURRENTLY "public"."plain"',
        ),
    }


@ALL
def test_functions_that_count_on_the_search_path_are_no_false_alarm(stage: Stage) -> None:
    stage.run(
        f"ALTER DATABASE {stage.name} SET search_path = app, public",
        "CREATE SCHEMA app; CREATE TABLE app.allowed (k int); INSERT INTO app.allowed VALUES (1)",
        "CREATE FUNCTION app.is_allowed(k int) RETURNS boolean LANGUAGE plpgsql STABLE AS"
        " 'BEGIN RETURN EXISTS (SELECT FROM allowed a WHERE a.k = is_allowed.k); END'",
        "SET search_path = app; CREATE TABLE app.t (id int PRIMARY KEY, k int CHECK (app.is_allowed(k)))",
        "SET search_path = app; INSERT INTO app.t VALUES (1, 1)",
    )
    assert stage.found() == {}
    stage.run("SET search_path = app; DELETE FROM app.allowed")
    assert stage.found()["check:app.t.t_k_check"].samples == ("id=1, k=1",)


def test_partitions_on_another_server_are_not_asked(stage: Stage) -> None:
    stage.run(
        "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER far FOREIGN DATA WRAPPER nothing",
        "CREATE TABLE p (id int NOT NULL) PARTITION BY RANGE (id)",
        "CREATE FOREIGN TABLE away PARTITION OF p FOR VALUES FROM (0) TO (10) SERVER far",
        "CREATE TABLE here PARTITION OF p FOR VALUES FROM (10) TO (20)",
    )
    found = stage.found()
    assert {name: (each.outcome, each.message) for name, each in found.items()} == {
        "required:public.p": ("SKIPPED", "parts of public.p are on another server, which is not queried")
    }


def test_what_looks_like_a_secret_is_not_shown(stage: Stage) -> None:
    stage.run(
        "CREATE TABLE users (id int PRIMARY KEY, password_hash text)",
        "INSERT INTO users VALUES (1, 'hunter2')",
        "ALTER TABLE users ADD CONSTRAINT long CHECK (length(password_hash) > 10) NOT VALID",
    )
    found = stage.rule("check:public.users.long")
    assert found.samples == ("id=1, password_hash=***",)


def test_values_that_only_an_index_can_compare_are_skipped(stage: Stage) -> None:
    stage.run(
        "CREATE TABLE t (b box); CREATE FUNCTION box_order(box, box) RETURNS int LANGUAGE sql IMMUTABLE"
        " AS 'SELECT btfloat8cmp(area($1), area($2))'",
        "CREATE OPERATOR CLASS by_area FOR TYPE box USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =,"
        " OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 box_order(box, box)",
        "CREATE UNIQUE INDEX by_box ON t (b by_area); INSERT INTO t VALUES ('(0,0),(1,1)')",
        "CREATE MATERIALIZED VIEW v AS SELECT 1 AS x WITH NO DATA; CREATE UNIQUE INDEX of_v ON v (x)",
    )
    found = stage.found()
    assert {name: (each.outcome, each.message) for name, each in found.items() if each.kind != "view"} == {
        "unique:public.t.by_box": ("SKIPPED", "values of its type can be compared only by its index")
    }
