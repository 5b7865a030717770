"""Each odd object that a catalogue can hold, alone: the remarks of a backup, and an exact restore."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg import sql

from lastgood import rollback
from lastgood.dump.files.formats import open_dump
from lastgood.errors import Failed, LastgoodError, Refused
from lastgood.facts.compare import compare
from lastgood.facts.of_database import facts_at
from lastgood.facts.of_dump import facts_of_dump
from lastgood.facts.settled import settled
from lastgood.plan.plan import CONFINED, Choice, CodePolicy, Request
from lastgood.points.dump_point import take
from lastgood.points.point import RestorePoint, pg_restore_for
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.restore import restore
from tests.support.same_database import dump, normalised
from tests.support.unusual_objects import CASES, Odd, make

PARTS = 8
# What pg_dump writes of the restored database is not what it wrote before, and can't be.
OTHER_TEXT = {
    "a side table of columns that are gone": "the options of a table that does not exist any more",
    "plpgsql dropped and made again": "every new database has it already",
    "a subscription that is off": "subscriptions are left out",
    "like another table in all": "the type of an identity's sequence, which is the column's once it was dumped",
}
# The dump names it otherwise than the catalogue.
OTHER_NAMES = {
    "a language with a handler of the server": "as an extension",
    "a trusted language with a handler of the server alone": "as an extension",
    "words that later versions keep for themselves": "quoted by the rules of the newest version",
}
GOING_BACK = (
    "shell operator as negator",
    "a language with a handler of the server",
    "plpgsql dropped and made again",
    "foreign data",
    "access methods",
    "partitions by hash of an enum",
    "names",
    "large objects",
)
# They need more rights than a role without rights has: they are restored as the operator only.
NEED_RIGHTS = {
    "a language with a handler of the server",
    "access methods",
    "aggregates",
    "aggregates that pass their state on",
    "an access method with capitals and its operator family",
    "functions",
    "a partitioned table with an access method",
    "casts of every kind",
    "foreign data",
    "operator classes and families",
    "text search objects",
    "transforms",
}
_numbers = itertools.count(1)


@contextmanager
def made(server: EmbeddedServer, odd: Odd) -> Iterator[tuple[str, str]]:
    """Its database, and a name for a restored one; both are dropped afterwards, with what rollbacks made of them."""
    name = f"odd_{next(_numbers)}"
    try:
        make(server, odd, name)
        yield name, f"{name}_restored"
    finally:
        with server.target("postgres").connect() as connection:
            names = [row[0] for row in connection.execute("SELECT datname FROM pg_database")]
        for each in names:
            if each == name or each.startswith(f"{name}_"):
                _drop(server, each)


def _drop(server: EmbeddedServer, name: str) -> None:
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))
    with server.target(name).connect() as connection:
        for (subscription,) in connection.execute(
            "SELECT subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = %s)",
            [name],
        ).fetchall():
            connection.execute(sql.SQL("DROP SUBSCRIPTION {}").format(sql.Identifier(subscription)))
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def unlike(server: EmbeddedServer, odd: Odd, point: RestorePoint, name: str, folder: Path) -> Iterator[str]:
    """In what a database differs from the restore point: by its facts, and by pg_dump's own text."""
    assert point.manifest is not None
    comparison = compare(point.manifest.facts, facts_at(server.target(name), like=point.manifest.facts))
    yield from (f"{each.of}: {each.expected}, {each.found}" for each in comparison.differences)
    yield from comparison.not_compared
    if odd.name not in OTHER_TEXT:
        then, now = [lines_of(path) for path in (point.path, dump(server, name, folder / "again.sql"))]
        yield from difflib.unified_diff(then, now, n=0, lineterm="")


def lines_of(path: Path) -> list[str]:
    """A plain dump's lines, settled."""
    return [settled(line) for line in normalised(path.read_bytes())]


def by_psql(server: EmbeddedServer, odd: Odd, store: Path) -> Iterator[str]:
    """What no dump may bring along is refused; psql takes it, and what comes of that has the same facts."""
    with made(server, odd) as (name, into):
        with pytest.raises(Failed) as raised:
            take(server.target(name), store)
        if f'in the language "{odd.machine_code}" outside an extension' not in str(raised.value):
            yield str(raised.value)
        make(server, Odd(odd.name, dump(server, name, store / "dump.sql").read_text()), into)
        facts = [facts_at(server.target(each)) for each in (name, into)]
        yield from (f"{each.of}: {each.expected}, {each.found}" for each in compare(*facts).differences)


def failures(server: EmbeddedServer, odd: Odd, store: Path) -> Iterator[str]:
    """What is wrong with its backup, and with what is restored from that."""
    if odd.machine_code:
        yield from by_psql(server, odd, store)
        return
    with made(server, odd) as (name, into):
        point = take(server.target(name), store)
        assert point.manifest is not None
        found, _ = facts_of_dump(open_dump(point.path, pg_restore=pg_restore_for), time_zone="UTC")
        named = [{(one.kind, one.identity) for one in side.objects} for side in (point.manifest.facts, found)]
        if odd.name not in OTHER_NAMES:
            yield from (f"only in the database's account: {one}" for one in named[0] - named[1])
            yield from (f"only in the dump's account: {one}" for one in named[1] - named[0])
        policy = CodePolicy(trusted="needs rights") if odd.name in NEED_RIGHTS else CONFINED
        report = restore(server.target("postgres"), store, point.path.name, into, policy=policy)
        yield from (f"repaired: {one.what}: {one.why}" for one in report.repaired)
        yield from report.not_compared
        yield from unlike(server, odd, point, into, store)


@pytest.mark.postgres(18, also=(15,))
@pytest.mark.parametrize("part", range(PARTS))
def test_a_backup_of_each_is_restored_exactly(server: EmbeddedServer, store: Path, part: int) -> None:
    wrong: dict[str, list[str]] = {}
    for odd in CASES[part::PARTS]:
        if odd.fits(server):
            folder = store / odd.name.replace("/", "_")
            folder.mkdir()
            try:
                wrong[odd.name] = list(failures(server, odd, folder))
            except (LastgoodError, AssertionError) as error:
                wrong[odd.name] = [str(error)]
    assert {name: found for name, found in wrong.items() if found} == {}


@pytest.mark.postgres(18, also=(15,))
@pytest.mark.parametrize("name", GOING_BACK)
def test_a_rollback_brings_it_back(server: EmbeddedServer, store: Path, tmp_path: Path, name: str) -> None:
    odd = next(case for case in CASES if case.name == name)
    with made(server, odd) as (live, _):
        target = server.target(live)
        point = take(target, store)
        with target.connect() as connection:
            connection.execute("CREATE TABLE public.broken (a int)")
        policy = CodePolicy(trusted="needs rights") if name in NEED_RIGHTS else CONFINED
        request = Request(target, store, tmp_path / "state", choice=Choice(point.path.name), code=policy)
        report = rollback.run(rollback.plan(request))
        assert report.repaired == ()
        assert list(unlike(server, odd, point, live, tmp_path)) == []


LANGUAGE_ALONE = """--
-- PostgreSQL database dump
--

-- Dumped from database version 15.18

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);

CREATE OR REPLACE PROCEDURAL LANGUAGE plfoo;

CREATE TABLE public.t (
    i integer
);

--
-- PostgreSQL database dump complete
--

"""


@pytest.mark.postgres(15, 18)
def test_a_language_whose_functions_no_one_knows_is_refused_at_once(server: EmbeddedServer, store: Path) -> None:
    (store / "dump.sql").write_text(LANGUAGE_ALONE)
    with pytest.raises(Refused) as raised:
        restore(server.target("postgres"), store, "dump.sql", "odd_never")
    assert str(raised.value) == (
        'cannot restore "dump.sql": the dump names languages without their handlers, and this server has no extensions'
        " of these names: plfoo"
    )
    assert raised.value.hint == (
        "Restore from a backup that lastgood made: it has the handlers. Or remove CREATE LANGUAGE, and the functions "
        "in these languages, from a copy of the dump."
    )
