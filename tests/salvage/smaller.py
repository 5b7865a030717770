"""A failing history made smaller: parts are left out for as long as it fails."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from lastgood.errors import LastgoodError
from lastgood.postgres.server import Connection, Target
from tests.salvage.course import Course
from tests.salvage.histories import History, Round

SECONDS = 60.0
_PLAIN = {
    "tables": (), "exclude": (), "where": (), "since": False, "user": "", "number": 0, "deletes": False,
    "with_parents": False, "merge_json": False, "edits": (),
}  # fmt: skip


def failure(target: Target, connection: Connection, history: History) -> BaseException | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            Course(target, connection, Path(folder), copy.deepcopy(history)).run()
        except (AssertionError, LastgoodError, psycopg.Error, LookupError) as error:
            connection.rollback()
            return error
    return None


def smaller(target: Target, connection: Connection, history: History, error: BaseException) -> tuple[History, Any]:
    """Leave out parts of a failing history for as long as it fails in the same way."""
    until = time.monotonic() + SECONDS
    shrunk = True
    while shrunk:
        shrunk = False
        for each in _less(history):
            if time.monotonic() > until:
                return history, error
            found = failure(target, connection, each)
            if found is not None and type(found) is type(error):
                history, error, shrunk = each, found, True
                break
    return history, error


def _less(history: History) -> Iterator[History]:
    """The history without one of its parts each."""
    for number in reversed(range(len(history.rounds))) if len(history.rounds) > 1 else ():
        yield _changed(history, lambda each: each.rounds.pop(number))  # noqa: B023  # called at once
    for place in reversed(range(len(history.base))):
        yield _changed(history, lambda each: each.base.pop(place))  # noqa: B023
    for number, one in enumerate(history.rounds):
        parts: list[Callable[[Round], object]] = [
            partial(_without_write, name, place)
            for name in ("theirs", "live", "later")
            for place in reversed(range(len(getattr(one, name))))
        ]
        parts += [partial(_set, name, False) for name in ("undo", "backwards") if getattr(one, name)]
        parts += [partial(_picked, name, plain) for name, plain in _PLAIN.items() if getattr(one.picked, name) != plain]
        parts += [partial(_skipped, name) for name, policy in one.picked.policies.items() if policy != "skip"]
        for part in parts:
            yield _changed(history, lambda each: part(each.rounds[number]))  # noqa: B023


def _without_write(name: str, place: int, one: Round) -> None:
    getattr(one, name).pop(place)


def _set(name: str, value: object, one: Round) -> None:
    setattr(one, name, value)


def _picked(name: str, value: object, one: Round) -> None:
    setattr(one.picked, name, value)


def _skipped(name: str, one: Round) -> None:
    one.picked.policies[name] = "skip"


def _changed(history: History, change: Callable[[History], object]) -> History:
    found = copy.deepcopy(history)
    change(found)
    return found
