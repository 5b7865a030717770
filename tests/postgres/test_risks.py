"""What a load would put at risk, by given states of WAL and on real servers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.pressure.risks import Risk, assess, risks
from lastgood.postgres.pressure.rules import Limits
from lastgood.postgres.pressure.wal import Disk, Wal, WalReader

MB, GB = 1 << 20, 1 << 30
WELL = Wal(0, (), "", 16 * MB, GB, (Disk("pg_wal", 50 * GB, 100 * GB),), ())
TROUBLE = "archiving fails, last for 00000001000000000000000A"
DROP = "SELECT pg_drop_replication_slot('cdc')"


def slot(behind: int, *, active: bool = False, left: int | None = None) -> WalReader:
    return WalReader("slot", "cdc", behind, active, left)


@pytest.mark.parametrize(
    ("found", "expected", "risk"),
    [
        (WELL, 50 * GB, None),
        (
            replace(WELL, disks=(Disk("pg_wal", 4 * GB, 100 * GB),)),
            MB,
            Risk(
                "refusal",
                "disk_nearly_full",
                "the disk of pg_wal has 4.0 GB free of 100 GB, and 5.0 GB must remain free",
                "Free disk space there.",
            ),
        ),
        (
            replace(WELL, archive_trouble=TROUBLE),
            300 * MB,
            Risk(
                "caution",
                "archiving_fails",
                f"{TROUBLE}; about 300 MB of WAL would accumulate in addition",
                "Fix the archiving (see the server's log for its error).",
            ),
        ),
        (
            replace(WELL, archive_trouble=TROUBLE),
            3 * GB,
            Risk(
                "refusal",
                "archiving_fails",
                f"{TROUBLE}; about 3.0 GB of WAL would accumulate in addition",
                "Fix the archiving (see the server's log for its error), or allow more with --max-wal-lag SIZE.",
            ),
        ),
        (
            replace(WELL, readers=(slot(2 * GB),)),
            3 * GB,
            Risk(
                "caution",
                "idle_slot",
                'the replication slot "cdc" is 2.0 GB behind and has no consumer: the server keeps all WAL for it, '
                "about 3.0 GB more",
                f"If it is no longer needed: {DROP}",
            ),
        ),
        (
            replace(WELL, readers=(slot(2 * GB),), disks=()),
            3 * GB,
            Risk(
                "refusal",
                "idle_slot",
                'the replication slot "cdc" is 2.0 GB behind and has no consumer: the server keeps all WAL for it, '
                "about 3.0 GB more, and the free space for WAL is not visible",
                f"If it is no longer needed: {DROP}; or allow more with --max-wal-lag SIZE",
            ),
        ),
        (
            replace(WELL, readers=(slot(MB, left=GB),)),
            GB,
            Risk(
                "refusal",
                "slot_at_risk",
                'the replication slot "cdc" is 1.0 MB behind, and the server invalidates it after 1.0 GB more '
                "(max_slot_wal_keep_size); about 1.0 GB would be written",
                f"Let its consumer catch up; if it is no longer needed: {DROP}",
            ),
        ),
        (
            replace(WELL, readers=(slot(MB, active=True, left=GB),)),
            GB,
            Risk(
                "caution",
                "slot_at_risk",
                'the replication slot "cdc" is 1.0 MB behind, and the server invalidates it after 1.0 GB more '
                "(max_slot_wal_keep_size); about 1.0 GB would be written",
            ),
        ),
        (replace(WELL, readers=(slot(GB, active=True), WalReader("standby", "s1", GB, True))), 3 * GB, None),
        (
            replace(WELL, readers=(slot(2 * GB, active=True),)),
            MB,
            Risk(
                "caution",
                "late_reader_of_wal",
                'the replication slot "cdc" is 2.0 GB behind, before the load begins',
                "Check whether it catches up.",
            ),
        ),
        (
            replace(WELL, readers=(WalReader("replay", "s1", 2 * GB, True),)),
            MB,
            Risk(
                "caution",
                "late_reader_of_wal",
                'the standby "s1" has 2.0 GB left to replay, before the load begins',
                "Check whether it catches up.",
            ),
        ),
        (
            replace(WELL, disks=(), hidden=("the size of pg_wal", "the free space for WAL")),
            3 * GB,
            Risk(
                "note",
                "wal_unseen",
                "not monitored during the load, because it is not visible from here: the size of pg_wal, the free "
                "space for WAL",
            ),
        ),
    ],
)
def test_risks(found: Wal, expected: int, risk: Risk | None) -> None:
    assert list(assess(found, expected, Limits())) == ([risk] if risk is not None else [])


@pytest.mark.postgres(15, 16, 17, 18)
def test_a_forgotten_slot_on_a_real_server(server: EmbeddedServer) -> None:
    quiet = Limits(least_free=0, free_share=0)
    with server.target("postgres").connect() as connection:
        assert risks(connection, 0, quiet) == ()
        connection.execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
        try:
            (risk,) = risks(connection, 0, quiet)
            assert (risk.level, risk.code) == ("caution", "idle_slot")
            assert risk.hint == "If it is no longer needed: SELECT pg_drop_replication_slot('forgotten')"
        finally:
            connection.execute("SELECT pg_drop_replication_slot('forgotten')")
