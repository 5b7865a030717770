"""The names of runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from lastgood.journal.run_names import new_run


def test_a_run_is_named_in_utc_whatever_the_session_s_time_zone() -> None:
    moment = datetime(2025, 11, 4, 14, 30, tzinfo=UTC).astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert new_run(moment).startswith("20251104-143000-")
