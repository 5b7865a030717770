"""Time stamps as text: order and equality across offsets, of any year."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.facts.moments import Moment, latest, moment, same
from lastgood.postgres.embedded import EmbeddedServer

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.datetimes(timezones=st.just(UTC)), st.integers(-15 * 3600, 15 * 3600))
def test_an_instant_is_the_same_in_each_offset(when: datetime, offset: int) -> None:
    expected = Moment((when - EPOCH) // timedelta(microseconds=1), True)
    hours, rest = divmod(abs(offset), 3600)
    try:
        local = (when + timedelta(seconds=offset)).replace(tzinfo=None).isoformat(" ")
    except OverflowError:
        return
    text = f"{local}{'-' if offset < 0 else '+'}{hours:02}:{rest // 60:02}:{rest % 60:02}"
    assert moment(text) == expected
    assert same(text, when.replace(tzinfo=None).isoformat(" ") + "+00") is True


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("2017-11-03 13:17:12.478876-06", "2017-11-03 19:17:12.478876+00", True),
        ("2017-11-03 13:17:12.478876-06", "2017-11-03 19:17:12.478877+00", False),
        ("2024-01-01 05:30:00+05:30", "2023-12-31T19:00:00-05", True),
        ("2024-01-01 00:00:00.500000+00", "2024-01-01 00:00:00.5Z", True),
        ("0001-12-31 23:00:00-01 BC", "0001-01-01 00:00:00+00", True),
        ("20000-01-01 00:00:00+00", "19999-12-31 23:00:00-01", True),
        ("2024-01-01", "2024-01-01 00:00:00", True),
        ("2024-01-01", "2024-01-02", False),
        ("2024-01-01 00:00:00", "2024-01-01 00:00:00+00", None),
        ("01.02.2024", "2024-02-01", None),
        ("01.02.2024", "01.02.2024", True),
    ],
)
def test_two_texts_are_compared(one: str, other: str, equal: bool | None) -> None:
    assert same(one, other) is equal
    assert same(other, one) is equal


def test_the_last_one_is_not_that_whose_text_comes_last() -> None:
    assert latest(["2024-10-27 02:30:00+02", "2024-10-27 02:10:00+01"]) == "2024-10-27 02:10:00+01"
    assert latest(["9999-12-31", "10000-01-01", "0044-03-15 BC"]) == "10000-01-01"
    assert latest(["0044-03-15 BC", "0045-03-15 BC"]) == "0044-03-15 BC"
    assert latest(["nonsense", "0044-03-15 BC"]) == "0044-03-15 BC"


def test_years_as_the_server_counts_them(server: EmbeddedServer) -> None:
    with server.target("postgres").connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = connection.execute(
            "SELECT t::text, (extract(epoch FROM t) * 1000000)::bigint"
            " FROM generate_series('4000-01-01 BC'::timestamptz, '30000-01-01', '97 years 5 months 3 days 7 hours') t"
        ).fetchall()
    assert [(text, moment(text)) for text, _ in rows] == [(text, Moment(epoch, True)) for text, epoch in rows]
