"""How hard a load may press on the server: from the command line to what the work is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastgood import restore, rollback
from lastgood.cli.session import Session
from lastgood.config.settings import resolve
from lastgood.context import Context, Pace
from lastgood.errors import Refused
from lastgood.plan.plan import Request
from tests.cli.conftest import Lastgood

GIVEN = ("--jobs", "3", "--max-wal-lag", "2.5 GB", "--throttle", "50MB/s")
PACE = Pace(jobs=3, max_wal_lag=5 << 29, throttle=50 << 20)


def test_nothing_given(tmp_path: Path) -> None:
    session = Session([])
    session.use(resolve({}, {}, tmp_path))
    assert session.pace == Pace(None, 1 << 30, None)


@pytest.mark.parametrize("name", ["rollback", "resume"])
def test_it_is_carried_in_the_request(lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    asked: list[Request] = []

    def ask(request: Request, *rest: object) -> None:
        asked.append(request)
        raise Refused("enough")

    monkeypatch.setattr(rollback, "plan", ask)
    monkeypatch.setattr(rollback, "resume", ask)
    assert lastgood("--db", "dbname=crm", name, "--yes", *GIVEN).status == 3
    assert [request.pace for request in asked] == [PACE]


def test_a_restore_has_it_too(lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def ask(*given: object, **others: object) -> None:
        asked.extend(each.pace for each in (*given, *others.values()) if isinstance(each, Context))
        raise Refused("enough")

    monkeypatch.setattr(restore, "restore", ask)
    assert lastgood("restore", "a.sql", "--into", "copy", *GIVEN).status == 3
    assert asked == [PACE]


def test_an_invalid_size_is_reported_first(lastgood: Lastgood) -> None:
    outcome = lastgood("rollback", "--throttle", "fast")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == (
        "error: cannot use --throttle: it must be a size like 500MB or 2GB a second, 64 kB or more\n"
        "state: Nothing was read or changed.\n"
        "next:  `lastgood COMMAND --help` lists the options and their values.\n"
    )
