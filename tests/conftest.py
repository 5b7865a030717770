"""Real servers for tests: one cluster a version and test process, started when first asked for."""

from __future__ import annotations

import itertools
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer, available
from tests.support import forked_cli, memory, pooler
from tests.support.extension_servers import extended_server
from tests.support.hosted import Project

# Shared machines are slow at times: the duration of an example is not significant here.
settings.register_profile("lastgood", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("lastgood")

EmbeddedServer.place = memory.place()
# Where pytest creates its folders without --basetemp.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory.place(runs_programs=True)))

MAJORS = (15, 16, 17, 18)
NEWEST = 18
# The version on which tests run that name none. With LASTGOOD_TEST_MAJOR (a number, or "newest") only tests of that
# version run at all.
_WANTED = os.environ.get("LASTGOOD_TEST_MAJOR", "").replace("newest", str(NEWEST))
ONLY = int(_WANTED) if _WANTED else None
USUAL = ONLY or NEWEST
# The fixtures that take the versions of the ``postgres`` marker.
VERSIONED = ("server", "project", "hosted_project")
# The version of hosted projects.
HOSTED = ONLY or 17
# Their files may lie in memory; and what tests count is what they do themselves, not what the server does in between.
# One of them makes a tablespace that lies in the data folder; a standby that another one makes would not start with it.
OURS = {
    "max_wal_size": "256MB",
    "min_wal_size": "32MB",
    "autovacuum": "off",
    "allow_in_place_tablespaces": "on",
}
FIRST_SEED = "LASTGOOD_TEST_FIRST_SEED"
_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--campaign",
        choices=("short", "long"),
        default="short",
        help="how much is tried, and on how many versions",
    )
    # Of one run all workers collect the same schedules: the first process chooses, and its workers inherit it.
    os.environ.setdefault(FIRST_SEED, str(random.randrange(10_000_000)))
    parser.addoption("--seed", type=int, default=None, help="the one schedule of tests/crash to be repeated")


def pytest_configure() -> None:
    # A parent that ignores Ctrl+C (nohup, a shell's background) would hand that down to every program of the tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out tests of other versions where one version is asked for, and what a version does not know: a mark of
    one parameter narrows that of its function."""
    others = {item for item in items if isinstance(item, pytest.Function) and not _wanted(item, _major(item))}
    config.hook.pytest_deselected(items=[*others])
    items[:] = [item for item in items if item not in others]


def _wanted(item: pytest.Function, major: int | None) -> bool:
    if major is None:
        return True
    marks = item.iter_markers("postgres")
    known = all(not mark.args or major in (*mark.args, *mark.kwargs.get("also", ())) for mark in marks)
    return known and ONLY in (None, major)


def _major(item: pytest.Function) -> int | None:
    callspec = getattr(item, "callspec", None)
    return next((callspec.params[each] for each in VERSIONED if each in callspec.params), None) if callspec else None


def seeds(config: pytest.Config, short: int, long: int) -> list[int]:
    """The seeds of a campaign: the same few in the short form, so that a change is what makes it fail; other ones in
    each run of the long form; or the one that --seed names."""
    given = config.getoption("--seed")
    if given is not None:
        return [given]
    if config.getoption("--campaign") == "short":
        return list(range(short))
    return [int(os.environ[FIRST_SEED]) + number for number in range(long)]


def require(major: int) -> None:
    """Skips the test where that version is not installed, but not in CI."""
    if major not in available():
        if os.environ.get("CI"):
            pytest.fail(f"PostgreSQL {major} must be installed where CI is set")
        pytest.skip(f"PostgreSQL {major} is not on this machine")


class Servers:
    """The clusters of this test process, by major version."""

    def __init__(self) -> None:
        self._running: dict[int, EmbeddedServer] = {}

    def get(self, major: int) -> EmbeddedServer:
        """The running server of that version. Where it is not installed the test is skipped, but not in CI."""
        require(major)
        if major not in self._running:
            self._running[major] = EmbeddedServer(major, settings=OURS)
        return self._running[major]

    def close(self) -> None:
        for server in self._running.values():
            server.close()


def pytest_sessionfinish() -> None:
    forked_cli.close()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    running = Servers()
    yield running
    running.close()


@pytest.fixture(scope="session")
def projects() -> Iterator[Callable[[int], Project]]:
    """Hosted projects, by major version of their server, started when first asked for."""
    running: dict[int, Project] = {}

    def get(major: int) -> Project:
        require(major)
        if major not in running:
            running[major] = Project(major, settings=OURS)
        return running[major]

    yield get
    for each in running.values():
        each.close()


@pytest.fixture(scope="session")
def extended_servers() -> Iterator[Callable[[int], EmbeddedServer]]:
    """Servers that know the extensions in ``tests/fixtures/extensions``, by major version."""
    running: dict[int, EmbeddedServer] = {}
    with ExitStack() as stack:

        def get(major: int) -> EmbeddedServer:
            require(major)
            if major not in running:
                running[major] = stack.enter_context(extended_server(major, settings=OURS))
            return running[major]

        yield get


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    on_versions(metafunc, "server", USUAL)
    on_versions(metafunc, "hosted_project", HOSTED)


def on_versions(metafunc: pytest.Metafunc, fixture: str, usual: int) -> None:
    """Where a test uses the fixture, run it on each version that its ``postgres`` marker names, or on the usual one."""
    if fixture not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("postgres")
    wanted = [usual]
    if marker is not None:
        also = marker.kwargs.get("also", ())
        long = metafunc.config.getoption("--campaign") == "long"
        wanted = [*marker.args, *(major for major in also if long or major == ONLY)]
    metafunc.parametrize(fixture, wanted, indirect=True, ids=[f"pg{major}" for major in wanted])


@pytest.fixture
def hosted_project(request: pytest.FixtureRequest, projects: Callable[[int], Project]) -> Project:
    """A hosted project's server of the version that the test's ``postgres`` marker names (default: that of today's
    projects)."""
    return projects(request.param)


@pytest.fixture
def server(request: pytest.FixtureRequest, servers: Servers) -> EmbeddedServer:
    """A running server of the version that the test's ``postgres`` marker names (default: the newest); with the marker
    ``extended`` one that knows extensions of ours."""
    major: int = request.param
    marker = request.node.get_closest_marker("extended")
    return request.getfixturevalue("extended_servers")(major) if marker is not None else servers.get(major)


@pytest.fixture
def new_database(server: EmbeddedServer) -> Iterator[Callable[..., str]]:
    """Makes empty databases with names of their own; ``new_database("app")`` gives e.g. ``app_7``.

    Every database of the server whose name starts with such a name is dropped afterwards (shadows, kept ones).
    """
    made: list[str] = []

    def make(base: str = "app", **options: str) -> str:
        name = f"{base}_{os.getpid()}_{next(_numbers)}"
        with server.target("postgres").connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        made.append(name)
        return name

    yield make
    with server.target("postgres").connect() as connection:
        names = [row[0] for row in connection.execute("SELECT datname FROM pg_database")]
        for name in names:
            if any(name == base or name.startswith(base + "_") for base in made):
                connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(sql.Identifier(name)))
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def new_pooler() -> Iterator[Callable[..., pooler.PgBouncer]]:
    """Makes PgBouncers. Where the program is not installed the test is skipped, but not in CI."""
    if pooler.PROGRAM is None:
        if os.environ.get("CI"):
            pytest.fail("pgbouncer must be installed where CI is set")
        pytest.skip("pgbouncer is not on this machine")
    made: list[pooler.PgBouncer] = []

    def make(databases: dict[str, str], users: tuple[str, ...] = (), **settings: str) -> pooler.PgBouncer:
        made.append(pooler.PgBouncer(databases, users, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An empty folder for restore points."""
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder
