"""Hostile commands, each alone in a dump that is right otherwise: refused before anything is sent to a server."""

from __future__ import annotations

import pytest

from lastgood.dump.reader import read
from lastgood.errors import Foreign, Unsafe
from tests.dump import hostile
from tests.support.real_dumps import Text


def test_the_dump_around_them_is_right() -> None:
    reading = read(Text(hostile.hostile_dump("")))
    list(reading)
    assert reading.summary.has_data


@pytest.mark.parametrize("statement", hostile.STATEMENTS)
def test_each_is_refused_as_unsafe(statement: str) -> None:
    first, last = hostile.HEAD.count("\n") + 1, hostile.HEAD.count("\n") + 1 + statement.count("\n")
    with pytest.raises(Unsafe, match=r"^cannot restore the dump: line \d+ ") as refused:
        list(read(Text(hostile.hostile_dump(statement))))
    assert refused.value.line is not None and first <= refused.value.line <= last
    assert refused.value.exit_status == 4


@pytest.mark.parametrize("statement", hostile.NOT_OURS)
def test_what_is_harmless_is_refused_as_foreign(statement: str) -> None:
    with pytest.raises(Foreign) as refused:
        list(read(Text(hostile.hostile_dump(statement))))
    assert refused.value.exit_status == 4
