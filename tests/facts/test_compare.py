"""Differences between facts, and the remarks about facts that can't be compared."""

from __future__ import annotations

import pytest

from lastgood.facts import (
    DigestRules,
    ExtensionFacts,
    Facts,
    FactsDifference,
    LanguageFacts,
    LargeObjectFacts,
    MigrationFacts,
    ObjectFacts,
    SequenceFacts,
    TableFacts,
)
from lastgood.facts.compare import FactsComparison, compare

ONE, OTHER = "1" * 32, "2" * 32


def table(
    name: str = "t",
    rows: int = 2,
    digest: str | None = ONE,
    columns: tuple[str, ...] = ("a", "b"),
    zoned: bool = False,
    why_no_digest: str = "",
    newest: dict[str, str] | None = None,
) -> TableFacts:
    return TableFacts(
        schema_name="s",
        name=name,
        columns=columns,
        rows=rows,
        digest=digest,
        zoned=zoned,
        why_no_digest=why_no_digest,
        newest=newest or {},
    )


def facts(*tables: TableFacts, zone: str | None = "UTC", major: int | None = 18, encoding: str = "UTF8") -> Facts:
    rules = DigestRules(time_zone=zone, server_major=major, client_encoding=encoding)
    return Facts(origin="database", tables=tables, rules=rules)


def listed(comparison: FactsComparison) -> list[tuple[str, str, str, str]]:
    return [(one.kind, one.what, one.expected, one.found) for one in comparison.differences]


CASES: list[tuple[str, Facts, Facts, list[tuple[str, str, str, str]], list[str], list[bool | None]]] = [
    ("equal", facts(table()), facts(table()), [], [], [True]),
    ("missing", facts(table()), facts(), [("table", "s.t", "2 rows", "missing")], [], [False]),
    ("too many", facts(), facts(table(rows=1)), [("table", "s.t", "absent", "1 row")], [], []),
    ("rows", facts(table()), facts(table(rows=1)), [("rows", "s.t", "2 rows", "1 row")], [], [False]),
    (
        "content",
        facts(table()),
        facts(table(digest=OTHER)),
        [("content", "s.t", f"digest {ONE}", f"digest {OTHER}")],
        [],
        [False],
    ),
    ("columns", facts(table()), facts(table(columns=("b", "a"))), [("columns", "s.t", "a, b", "b, a")], [], [False]),
    (
        "columns and rows",
        facts(table(columns=())),
        facts(table(rows=3)),
        [("columns", "s.t", "none", "a, b"), ("rows", "s.t", "2 rows", "3 rows")],
        [],
        [False],
    ),
    (
        "no digest on one side",
        facts(table(digest=None, why_no_digest="some of its INSERTs contain expressions")),
        facts(table()),
        [],
        [
            'The content of table "s.t" was not compared, only its number of rows: some of its INSERTs contain'
            " expressions."
        ],
        [None],
    ),
    (
        "no digest, and newest time stamps that differ",
        facts(table(digest=None, newest={"a": "2025-01-01", "c": "1"})),
        facts(table(newest={"a": "2025-01-02", "b": "1"})),
        [("newest", "s.t.a", "2025-01-01", "2025-01-02")],
        [
            'The content of table "s.t" was not compared, only its number of rows and the newest a: its rows have no'
            " digest."
        ],
        [False],
    ),
    ("another zone, plain rows, equal", facts(table(), zone=None), facts(table()), [], [], [True]),
    (
        "another zone, plain rows, different: the zone is no excuse",
        facts(table(), zone=None),
        facts(table(digest=OTHER)),
        [("content", "s.t", f"digest {ONE}", f"digest {OTHER}")],
        [],
        [False],
    ),
    (
        "another zone, zoned rows, equal digests prove equality",
        facts(table(zoned=True), zone="Asia/Tokyo"),
        facts(table(zoned=True)),
        [],
        [],
        [True],
    ),
    (
        "unknown zone, zoned rows, newest at one instant",
        facts(table(zoned=True, newest={"a": "2017-11-03 13:17:12.478876-06"}), zone=None),
        facts(table(zoned=True, digest=OTHER, newest={"a": "2017-11-03 19:17:12.478876+00"})),
        [],
        [
            'The content of table "s.t" was not compared, only its number of rows and the newest a: the time'
            " zone of the time stamps is unknown."
        ],
        [None],
    ),
    (
        "unknown zone, zoned rows, newest at two instants",
        facts(table(zoned=True, newest={"a": "2017-11-03 13:17:12-06"}), zone=None),
        facts(table(zoned=True, digest=OTHER, newest={"a": "2017-11-03 13:17:12+00"})),
        [("newest", "s.t.a", "2017-11-03 13:17:12-06", "2017-11-03 13:17:12+00")],
        [
            'The content of table "s.t" was not compared, only its number of rows and the newest a: the time'
            " zone of the time stamps is unknown."
        ],
        [False],
    ),
    (
        "newest without an offset on one side",
        facts(table(digest=None, zoned=True, newest={"a": "2017-11-03 13:17:12", "b": "2017-11-03"})),
        facts(table(zoned=True, newest={"a": "2017-11-03 19:17:12+00", "b": "2017-11-03 00:00:00"})),
        [],
        [
            'The content of table "s.t" was not compared, only its number of rows and the newest b: its rows have no'
            " digest.",
            'The newest "s.t.a" was not compared: it is written as "2017-11-03 13:17:12" and as "2017-11-03'
            ' 19:17:12+00".',
        ],
        [None],
    ),
    (
        "two zones",
        facts(table(zoned=True), zone="Asia/Tokyo"),
        facts(table(zoned=True, digest=OTHER)),
        [],
        [
            'The content of table "s.t" was not compared, only its number of rows: the time stamps are in'
            " different time zones (Asia/Tokyo and UTC)."
        ],
        [None],
    ),
    (
        "two encodings",
        facts(table(), encoding="LATIN1"),
        facts(table(digest=OTHER)),
        [],
        [
            'The content of table "s.t" was not compared, only its number of rows: text was written in LATIN1 and in'
            " UTF8."
        ],
        [None],
    ),
    (
        "two majors that write alike",
        facts(table(), major=15),
        facts(table(digest=OTHER)),
        [("content", "s.t", f"digest {ONE}", f"digest {OTHER}")],
        [],
        [False],
    ),
    (
        "a major that wrote numbers otherwise",
        facts(table(), major=11),
        facts(table(digest=OTHER)),
        [],
        [
            'The content of table "s.t" was not compared, only its number of rows: PostgreSQL 11 and PostgreSQL 18 may'
            " format the same values differently."
        ],
        [None],
    ),
]


@pytest.mark.parametrize(
    ("expected", "found", "differences", "not_compared", "equal"),
    [case[1:] for case in CASES],
    ids=[c[0] for c in CASES],
)
def test_tables(
    expected: Facts,
    found: Facts,
    differences: list[tuple[str, str, str, str]],
    not_compared: list[str],
    equal: list[bool | None],
) -> None:
    comparison = compare(expected, found)
    assert listed(comparison) == differences
    assert list(comparison.not_compared) == not_compared
    assert [one.equal for one in comparison.tables] == equal
    assert comparison.equal == (not differences)
    assert comparison.exact == (not differences and all(equal))


def test_a_table_shows_both_sides() -> None:
    (one,) = compare(facts(table()), facts(table(rows=3, digest=OTHER))).tables
    assert one.model_dump() == {
        "schema_name": "s",
        "name": "t",
        "rows": 2,
        "digest": ONE,
        "found_rows": 3,
        "found_digest": OTHER,
        "equal": False,
    }


def test_everything_else() -> None:
    expected = Facts(
        origin="dump",
        sequences=(
            SequenceFacts(schema_name="s", name="a", last_value=5, is_called=True),
            SequenceFacts(schema_name="s", name="b", last_value=5, is_called=True),
        ),
        large_objects=LargeObjectFacts(count=1, digest=ONE),
        extensions=(ExtensionFacts(name="citext"), ExtensionFacts(name="hstore", version="1.7")),
        migration=MigrationFacts(tool="Rails", table="public.schema_migrations", version="2", applied=2),
        object_counts={"table": 2, "view": 1},
        objects=(ObjectFacts(kind="view", identity="s.v"),),
    )
    found = Facts(
        origin="database",
        sequences=(
            SequenceFacts(schema_name="s", name="a", last_value=5, is_called=False),
            SequenceFacts(schema_name="s", name="c", last_value=1, is_called=False),
        ),
        large_objects=LargeObjectFacts(count=2, digest=ONE),
        extensions=(ExtensionFacts(name="hstore", version="1.8"), ExtensionFacts(name="more", version="1")),
        migration=MigrationFacts(tool="Rails", table="public.schema_migrations", version="3", applied=3),
        object_counts={"table": 2, "view": 0, "trigger": 1},
        objects=(ObjectFacts(kind="trigger", identity="t on s.t"),),
    )
    comparison = compare(expected, found)
    assert comparison.not_compared == ()
    assert listed(comparison) == [
        ("sequence", "s.a", "last value 5", "next value 5"),
        ("sequence", "s.b", "last value 5", "missing"),
        ("sequence", "s.c", "absent", "next value 1"),
        ("large objects", "large objects", "1 large object", "2 large objects"),
        ("extension", "citext", "installed", "missing"),
        ("extension", "hstore", "version 1.7", "version 1.8"),
        ("extension", "more", "absent", "version 1"),
        ("migration", "public.schema_migrations", "version 2, 2 applied", "version 3, 3 applied"),
        ("object", "number of triggers", "0", "1 (with t on s.t)"),
        ("object", "number of views", "1 (with s.v)", "0"),
    ]
    other = found.model_copy(update={"large_objects": LargeObjectFacts(count=1, digest=OTHER), "migration": None})
    differences = listed(compare(expected, other))
    assert ("large objects", "large objects", f"digest {ONE}", f"digest {OTHER}") in differences
    migration = ("migration", "migrations table", "public.schema_migrations", "no migrations table")
    assert migration in differences


def test_definitions_only_within_one_major() -> None:
    def side(major: int, digest: str, *more: ObjectFacts) -> Facts:
        objects = (ObjectFacts(kind="view", identity="s.v", digest=digest), *more)
        counts = {"view": len(objects), "index": 0}
        return Facts(origin="database", rules=DigestRules(server_major=major), object_counts=counts, objects=objects)

    assert compare(side(18, ONE), side(18, OTHER)).differences == (
        FactsDifference(kind="definition", what="view s.v", expected=f"definition {ONE}", found=f"definition {OTHER}"),
    )
    across = compare(side(15, ONE), side(18, OTHER))
    assert across.differences == ()
    assert across.not_compared == ("Definitions of objects were not compared: the servers' major versions differ.",)
    more = ObjectFacts(kind="view", identity="s.w", digest=ONE)
    assert listed(compare(side(18, ONE, more), side(18, ONE))) == [("object", "view s.w", "present", "missing")]
    assert listed(compare(side(18, ONE), side(18, ONE, more))) == [("object", "view s.w", "absent", "present")]


def test_definitions_by_other_rules() -> None:
    """Names, too, may be others by other rules: numbers are compared."""
    objects = (ObjectFacts(kind="view", identity="s.v", digest=ONE),)
    expected = Facts(origin="database", object_counts={"view": 1}, objects=objects)
    other = (ObjectFacts(kind="view", identity="s.w", digest=OTHER),)
    rules = DigestRules(definitions=2)
    found = Facts(origin="database", object_counts={"view": 1}, objects=other, rules=rules)
    comparison = compare(expected, found)
    assert comparison.differences == ()
    assert comparison.not_compared == (
        "Definitions of objects were not compared: those of one side come from another version of lastgood.",
    )
    (difference,) = compare(expected, found.model_copy(update={"object_counts": {"view": 2}})).differences
    assert difference.of == "number of views"


def test_a_language_that_a_dump_names_alone_is_no_extension() -> None:
    language = LanguageFacts(name="Pl Foo", trusted=False, handler=("pg_catalog", "plpgsql_call_handler"))
    made = ObjectFacts(kind="language", identity='"Pl Foo"', digest=ONE)
    database = Facts(origin="database", object_counts={"language": 1}, objects=(made,), languages=(language,))
    dump = Facts(
        origin="dump", object_counts={"table": 0}, extensions=(ExtensionFacts(name="Pl Foo", as_language=True),)
    )
    assert compare(database, dump).equal
    assert compare(dump, database).equal
    extension = Facts(origin="dump", object_counts={"table": 0}, extensions=(ExtensionFacts(name="Pl Foo"),))
    assert listed(compare(database, extension)) == [
        ("extension", "Pl Foo", "absent", "installed"),
        ("object", "number of languages", '1 (with "Pl Foo")', "0"),
    ]


@pytest.mark.parametrize(
    ("kind", "many"),
    [
        ("table", "tables"),
        ("policy", "policies"),
        ("primary key", "primary keys"),
        ("index", "indexes"),
        ("operator class", "operator classes"),
    ],
)
def test_kinds_are_counted_in_words(kind: str, many: str) -> None:
    some = Facts(origin="dump", object_counts={kind: 2})
    (difference,) = compare(some, Facts(origin="database", object_counts={kind: 3})).differences
    assert (difference.of, difference.expected, difference.found) == (f"number of {many}", "2", "3")


def test_objects_known_of_one_side_only() -> None:
    known = Facts(origin="database", object_counts={"view": 1})
    comparison = compare(known, Facts(origin="dump"))
    assert comparison.differences == ()
    assert comparison.not_compared == ("Schema objects were not compared: only one side has them.",)
    assert compare(Facts(origin="dump"), Facts(origin="database")).not_compared == ()
