"""When a load waits and when it stops, by given states of WAL."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lastgood.events import Caution, Note
from lastgood.postgres.pressure.rules import Limits, StrainJudge, StrainVerdict
from lastgood.postgres.pressure.wal import Disk, Wal, WalReader

MB, GB = 1 << 20, 1 << 30
ROOMY = (Disk("pg_wal", 50 * GB, 100 * GB),)


def seen(*readers: WalReader, disks: tuple[Disk, ...] = ROOMY, written: int = 0, trouble: str = "") -> Wal:
    return Wal(written, readers, trouble, 16 * MB, GB, disks, ())


def standby(behind: int) -> WalReader:
    return WalReader("standby", "s1", behind, active=True)


def slot(behind: int, *, active: bool = False, left: int | None = None) -> WalReader:
    return WalReader("slot", "cdc", behind, active, left)


DEFAULT = Limits()


def looks(*found: Wal, limits: Limits = DEFAULT, step: float = 1.0) -> list[StrainVerdict]:
    judge = StrainJudge(limits)
    return [judge.assess(each, step * number) for number, each in enumerate(found)]


def stopped(verdict: StrainVerdict) -> tuple[str, str]:
    assert verdict.stop is not None and verdict.wait == ""
    return verdict.stop.message, verdict.stop.hint


def test_a_server_without_standbys() -> None:
    assert looks(seen(), seen(written=9 * GB)) == [StrainVerdict(), StrainVerdict()]


def test_a_standby_is_waited_for_until_it_is_well_within_the_limit() -> None:
    found = looks(*(seen(standby(behind)) for behind in (0, GB, GB + MB, 900 * MB, 700 * MB, 900 * MB)))
    assert [each.wait for each in found] == [
        "",
        "",
        'the standby "s1" is 1.0 GB behind',
        'the standby "s1" is 900 MB behind',
        "",
        "",
    ]


def test_what_was_behind_before_does_not_count() -> None:
    found = looks(*(seen(standby(behind)) for behind in (5 * GB, 6 * GB, 7 * GB, 0, GB, 2 * GB)))
    assert [each.wait for each in found] == [
        "",
        "",
        'the standby "s1" is 7.0 GB behind',
        "",
        "",
        'the standby "s1" is 2.0 GB behind',
    ]


def test_the_one_that_is_furthest_behind_is_named() -> None:
    archive = WalReader("archive", "", 3 * GB, active=True)
    first = seen(standby(0), replace(archive, behind=0))
    assert looks(first, seen(standby(2 * GB), archive))[1].wait == "the WAL archive is 3.0 GB behind"


def test_a_standby_that_does_not_move_stops_the_load() -> None:
    found = looks(seen(standby(0)), *[seen(standby(2 * GB))] * 4, step=50)
    assert [bool(each.wait) for each in found] == [False, True, True, True, False]
    assert stopped(found[-1]) == (
        'cannot continue loading: the standby "s1" is 2.0 GB behind, without progress for 120 s',
        "Check that reader, or allow more with --max-wal-lag.",
    )


def test_one_that_moves_however_slowly_is_waited_for() -> None:
    found = looks(seen(standby(0)), *(seen(standby(2 * GB - n * MB)) for n in range(10)), step=100)
    assert all(each.wait and each.stop is None for each in found[1:])


def test_a_standby_that_applies_late_on_purpose_is_given_up() -> None:
    late = WalReader("replay", "s1", 2 * GB, active=True)
    found = looks(seen(replace(late, behind=0)), *[seen(late)] * 5, step=50)
    assert [bool(each.wait) for each in found] == [False, True, True, True, False, False]
    assert found[4].events == (
        Caution('the standby "s1" has 2.0 GB left to replay and makes no progress: loading no longer waits for it'),
    )
    assert found[5] == StrainVerdict()


def test_a_slot_whose_reader_does_not_move_is_a_matter_of_the_disk() -> None:
    late = slot(2 * GB, active=True)
    found = looks(seen(slot(0, active=True)), *[seen(late)] * 4, step=60)
    assert [bool(each.wait) for each in found] == [False, True, True, False, False]
    assert found[3].events == (
        Caution('the replication slot "cdc" is 2.0 GB behind and makes no progress: loading no longer waits for it'),
    )
    blind = looks(seen(slot(0, active=True), disks=()), *[seen(late, disks=())] * 4, step=60)
    assert stopped(blind[3]) == (
        'cannot continue loading: the replication slot "cdc" is 2.0 GB behind, without progress for 120 s',
        "Check that reader, or allow more with --max-wal-lag.",
    )


def test_a_slot_without_a_reader_is_limited_by_the_disk() -> None:
    first, second, third = looks(seen(slot(0)), seen(slot(2 * GB)), seen(slot(3 * GB)))
    assert (first, third) == (StrainVerdict(), StrainVerdict())
    assert second == StrainVerdict(
        events=(Caution('the replication slot "cdc" has no consumer: the server keeps all WAL for it'),)
    )


def test_a_slot_without_a_reader_on_an_unknown_disk() -> None:
    """Its reader may just be restarting."""
    first, second, third = looks(*(seen(slot(behind), disks=()) for behind in (5 * GB, 7 * GB, 7 * GB)), step=120)
    assert first == StrainVerdict()
    assert second == StrainVerdict('the replication slot "cdc" is 7.0 GB behind and has no consumer')
    assert stopped(third) == (
        'cannot continue loading: the replication slot "cdc" is 7.0 GB behind and has no consumer, and the free space '
        "for WAL is not visible, without progress for 120 s",
        "Allow more with --max-wal-lag; if the slot is no longer needed: SELECT pg_drop_replication_slot('cdc')",
    )


@pytest.mark.parametrize("active", [True, False])
def test_a_slot_that_the_server_would_give_up(active: bool) -> None:
    found = looks(
        *(
            seen(slot(behind * MB, active=active, left=left * MB))
            for behind, left in ((1, 65), (3, 63), (2, 100), (1, 130))
        )
    )
    assert [each.wait for each in found] == [
        "",
        'the replication slot "cdc" is 3.0 MB behind; the server invalidates it after 63 MB more',
        'the replication slot "cdc" is 2.0 MB behind; the server invalidates it after 100 MB more',
        "",
    ]
    late = looks(*[seen(slot(MB, active=active, left=-MB))] * 2, step=120)[1]
    assert stopped(late) == (
        'cannot continue loading: the replication slot "cdc" is 1.0 MB behind; the server invalidates it after 0 '
        "bytes more (max_slot_wal_keep_size), without progress for 120 s",
        "Let its consumer catch up; if it is no longer needed: SELECT pg_drop_replication_slot('cdc')",
    )


@pytest.mark.parametrize(
    ("disk", "text"),
    [
        (Disk("pg_wal", GB - 1, 4 * GB), "the disk of pg_wal has 1.0 GB free of 4.0 GB, and 1.0 GB must remain free"),
        (
            Disk("the data directory", 4 * GB, 100 * GB),
            "the disk of the data directory has 4.0 GB free of 100 GB, and 5.0 GB must remain free",
        ),
        (
            Disk("pg_wal", 19 * GB, 9000 * GB),
            "the disk of pg_wal has 19 GB free of 8.8 TB, and 20 GB must remain free",
        ),
    ],
)
def test_a_disk_that_gets_full(disk: Disk, text: str) -> None:
    (verdict,) = looks(seen(disks=(disk,)))
    assert stopped(verdict) == (f"cannot continue loading: {text}", "Free disk space there, then run it again.")
    assert looks(seen(disks=(replace(disk, free=20 * GB),))) == [StrainVerdict()]


def test_an_archive_that_fails() -> None:
    """What was written before it failed does not count; it may recover, and fail again."""
    trouble = "archiving fails, last for 00000001000000000000000A"
    found = looks(
        seen(written=GB),
        *(seen(trouble=trouble, written=written) for written in (5 * GB, 6 * GB, 6 * GB + 1)),
        seen(written=7 * GB),
        *(seen(trouble=trouble, written=written) for written in (7 * GB, 8 * GB, 9 * GB, 9 * GB)),
        step=120,
    )
    assert found[1].events == (Caution(f"{trouble}: WAL accumulates on the server"),)
    assert [each.wait for each in found] == [
        "",
        "",
        "",
        f"{trouble}, and 1.0 GB of WAL were written since",
        "",
        "",
        "",
        f"{trouble}, and 2.0 GB of WAL were written since",
        "",
    ]
    assert stopped(found[-1]) == (
        f"cannot continue loading: {trouble}, and 2.0 GB of WAL were written since, for more than 120 s",
        "Fix the archiving (see the server's log for its error), or allow more with --max-wal-lag.",
    )


def test_a_slot_that_is_no_longer_waited_for_still_counts() -> None:
    late = slot(2 * GB, active=True)
    found = looks(
        seen(slot(0, active=True)), *[seen(late)] * 4, *[seen(replace(late, left=MB))] * 4, step=60, limits=Limits()
    )
    assert [bool(each.wait) for each in found] == [False, True, True, False, False, True, True, False, False]
    assert stopped(found[7])[0].startswith('cannot continue loading: the replication slot "cdc" is 2.0 GB behind; the ')


def test_invisible_figures_are_reported_once() -> None:
    blind = replace(seen(disks=()), hidden=("the lag of standbys", "the free space for WAL"), size=3 * GB)
    first, second = looks(blind, replace(blind, size=4 * GB))
    assert second == StrainVerdict()
    assert first.events == (
        Note("not monitored, because it is not visible from here: the lag of standbys, the free space for WAL"),
        Caution("pg_wal has grown to 3.0 GB, more than the server's settings explain"),
    )
