"""Retention: restic's rules compared with a second implementation, and invariants of any policy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.config.settings import resolve
from lastgood.config.tables import Keep
from lastgood.errors import UsageError
from lastgood.points.retention import rules_keeping

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = (ZoneInfo("UTC"), BERLIN, ZoneInfo("America/New_York"), ZoneInfo("Asia/Kathmandu"))
RULES = ("hourly", "daily", "weekly", "monthly", "yearly")


def period(rule: str, moment: datetime) -> tuple[int, ...]:
    year, week, _ = moment.isocalendar()
    return {
        "hourly": (moment.year, moment.month, moment.day, moment.hour),
        "daily": (moment.year, moment.month, moment.day),
        "weekly": (year, week),
        "monthly": (moment.year, moment.month),
        "yearly": (moment.year,),
    }[rule]


def expected(keep: Keep, moments: Sequence[datetime], zone: ZoneInfo, reference: datetime) -> set[datetime]:
    """The same rules as sets: of the periods with any moment the newest ones, of each its newest moment."""
    kept = set(sorted(moments)[-keep.last :]) if keep.last else set()
    for rule in RULES:
        number = getattr(keep, rule)
        groups: dict[tuple[int, ...], list[datetime]] = {}
        for moment in moments:
            groups.setdefault(period(rule, moment.astimezone(zone)), []).append(moment)
        newest = sorted((max(group) for group in groups.values()), reverse=True)
        kept |= set(newest[:number])
        if number > len(newest) and moments:
            kept.add(min(moments))
    if keep.within is not None:
        kept |= {moment for moment in moments if moment > reference - timedelta(seconds=keep.within)}
    return kept


Parts = tuple[int, tuple[int, ...], float | None]
START = datetime(2024, 1, 1, tzinfo=UTC)
numbers = st.integers(0, 6)
policies = st.builds(
    lambda last, counts, within: (last, counts, within),
    numbers,
    st.tuples(*[numbers] * len(RULES)),
    st.none() | st.floats(1, 90 * 86400),
).filter(lambda parts: bool(parts[0] or any(parts[1]) or parts[2]))
histories = st.sets(
    st.one_of(
        st.integers(0, 3 * 365 * 24 * 60).map(lambda minutes: START + timedelta(minutes=minutes)),
        # Days with many of them, and the nights in which the clocks change.
        st.integers(0, 10 * 24 * 4).map(
            lambda quarters: datetime(2025, 10, 20, tzinfo=UTC) + timedelta(minutes=15 * quarters)
        ),
    ),
    max_size=40,
).map(sorted)


def policy(parts: Parts) -> Keep:
    last, counts, within = parts
    return Keep(last=last, within=within, **dict(zip(RULES, counts, strict=True)))


def keeps(keep: Keep, moments: Sequence[datetime], zone: ZoneInfo, reference: datetime | None = None) -> set[datetime]:
    since = reference or max(moments, default=START)
    reasons = rules_keeping(keep, moments, zone=zone, reference=since)
    return {moment for moment, why in zip(moments, reasons, strict=True) if why}


@given(policies, histories, st.sampled_from(ZONES), st.randoms())
def test_it_keeps_what_the_rules_say(parts: Parts, history: list[datetime], zone: ZoneInfo, random: Random) -> None:
    keep, reference = policy(parts), max(history, default=START)
    random.shuffle(history)
    assert keeps(keep, history, zone) == expected(keep, history, zone, reference)


@given(policies, histories, st.sampled_from(ZONES))
def test_it_never_removes_the_newest(parts: Parts, history: list[datetime], zone: ZoneInfo) -> None:
    if history:
        assert max(history) in keeps(policy(parts), history, zone)


@given(policies, histories, st.sampled_from(ZONES), st.sets(st.integers(0, 39)))
def test_twice_removes_nothing_more(parts: Parts, history: list[datetime], zone: ZoneInfo, pinned: set[int]) -> None:
    """Also if some are kept for other reasons: they exist the second time too."""
    keep = policy(parts)
    stay = {moment for place, moment in enumerate(history) if place in pinned}
    once = sorted(keeps(keep, history, zone) | stay)
    assert keeps(keep, once, zone) | stay == set(once)


@given(policies, histories, st.sampled_from(ZONES), st.integers(1, 10**6))
def test_a_newer_one_brings_nothing_back(parts: Parts, history: list[datetime], zone: ZoneInfo, minutes: int) -> None:
    if history:
        keep, newer = policy(parts), max(history) + timedelta(minutes=minutes)
        gone = set(history) - keeps(keep, history, zone)
        assert not gone & keeps(keep, [*history, newer], zone)


@given(policies, histories, st.sampled_from(ZONES))
def test_a_rule_more_keeps_no_fewer(parts: Parts, history: list[datetime], zone: ZoneInfo) -> None:
    last, counts, within = parts
    more = policy((last + 1, tuple(count + 1 for count in counts), (within or 0) + 86400))
    assert keeps(policy(parts), history, zone) <= keeps(more, history, zone)


def why(keep: Keep, *moments: str, zone: ZoneInfo | None = None) -> list[str]:
    there = [datetime.fromisoformat(moment).replace(tzinfo=UTC) for moment in moments]
    reasons = rules_keeping(keep, there, zone=zone or ZONES[0], reference=max(there))
    return [", ".join(each) for each in reasons]


def test_each_reason_names_the_rule_and_the_period() -> None:
    keep = Keep(last=2, hourly=1, daily=2, weekly=2, monthly=2, yearly=1, within=3 * 86400)
    moments = ("2026-11-23T10:30", "2026-11-23T10:10", "2026-11-22T23:00", "2026-11-20T01:00", "2026-10-31T01:00")
    assert why(keep, *moments, "2026-10-30T01:00") == [
        "the newest, hourly 2026-11-23 10h, daily 2026-11-23, weekly 2026-W48, monthly 2026-11, yearly 2026, "
        "within 3 days",
        "number 2 of the 2 newest, within 3 days",
        "daily 2026-11-22, weekly 2026-W47, within 3 days",
        "",
        "monthly 2026-10",
        "",
    ]
    assert why(Keep(yearly=3), "2026-11-23T10:30", "2026-05-01T01:00", "2026-02-01T01:00") == [
        "yearly 2026",
        "",
        "the oldest, while yearly has room",
    ]


def test_days_are_those_of_the_time_zone() -> None:
    moments = ("2026-11-22T23:30", "2026-11-22T22:30", "2026-11-22T10:00")
    assert why(Keep(daily=2), *moments) == ["daily 2026-11-22", "", "the oldest, while daily has room"]
    assert why(Keep(daily=2), *moments, zone=BERLIN) == ["daily 2026-11-23", "daily 2026-11-22", ""]
    # The hour that comes twice in an autumn night is one, in which the newest stays.
    twice = ("2025-10-26T01:30", "2025-10-26T00:30", "2025-10-25T23:30")
    assert why(Keep(hourly=2), *twice, zone=BERLIN) == ["hourly 2025-10-26 02h", "", "hourly 2025-10-26 01h"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keep = {}", '"retention.keep" in "{file}": it keeps nothing: give numbers, as in {{ last = 3, daily = 7 }}'),
        ("keep = { last = -1 }", '"retention.keep.last" in "{file}": it must be 0 or more'),
        ("keep = { last = 1.5 }", '"retention.keep.last" in "{file}": it must be a whole number'),
        (
            'kept = { within = "soon" }',
            '"retention.kept.within" in "{file}": write a duration like 30s, 5min or 24h',
        ),
        ('kept = { within = "0s" }', '"retention.kept.within" in "{file}": it must be more than 0'),
        (
            'timezone = "Mars/Olympus"',
            '"retention.timezone" in "{file}": unknown time zone: write it like "Europe/Berlin", or "UTC"',
        ),
        (
            'timezone = "../etc"',
            '"retention.timezone" in "{file}": unknown time zone: write it like "Europe/Berlin", or "UTC"',
        ),
    ],
)
def test_what_can_not_be_a_policy_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "lastgood.toml"
    file.write_text(f"[retention]\n{text}\n")
    with pytest.raises(UsageError) as caught:
        resolve({}, {}, tmp_path)
    assert caught.value.message == "cannot use " + message.format(file=file)
