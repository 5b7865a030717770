"""Hosted projects for tests: one server a version and test process, started when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import USUAL, on_versions
from tests.support.hosted import FOLDER, Project


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    on_versions(metafunc, "project", USUAL)


@pytest.fixture
def project(request: pytest.FixtureRequest, projects: Callable[[int], Project]) -> Project:
    """A hosted project's server of the version that the test's ``postgres`` marker names (default: the newest)."""
    return projects(request.param)


@pytest.fixture
def database(project: Project) -> Iterator[str]:
    """A project's database at the restore point."""
    name = project.copy()
    yield name
    project.drop(name)


@pytest.fixture
def broken(project: Project) -> Iterator[str]:
    """A project's database after the migration that went wrong."""
    name = project.copy()
    project.psql(name, (FOLDER / "migration.sql").read_text())
    yield name
    project.drop(name)
