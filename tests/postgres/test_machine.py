"""What is known of the server's machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.pressure.machine import Machine, is_here, machine
from lastgood.postgres.server import Connection

GIGABYTE = 1 << 30


@pytest.fixture
def proc(server: EmbeddedServer, tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    folder.mkdir()
    return folder


def appears(proc: Path, connection: Connection, *, title: str, cgroup: str = "0::/\n") -> None:
    """The server's process, as this machine would show it."""
    folder = proc / str(connection.info.backend_pid)
    folder.mkdir()
    (folder / "cmdline").write_text(title)
    (folder / "cgroup").write_text(cgroup)


@pytest.mark.postgres(15, 16, 17, 18)
def test_a_server_on_this_machine(server: EmbeddedServer) -> None:
    with server.target("postgres").connect() as connection:
        found = machine(connection)
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found.cpus is not None and 1 <= found.cpus <= (os.cpu_count() or 1)
    assert found.ram is not None and 0 < found.ram <= installed


def test_a_server_whose_process_is_not_ours_is_elsewhere(server: EmbeddedServer, proc: Path) -> None:
    with server.target("postgres").connect() as connection:
        assert machine(connection, proc) == Machine()
        appears(proc, connection, title="bash\0")
        assert machine(connection, proc) == Machine()


def test_without_proc_the_socket_identifies_the_machine(server: EmbeddedServer, tmp_path: Path) -> None:
    with server.target("postgres").connect() as connection:
        assert is_here(connection, tmp_path / "none")


def test_limits_of_the_servers_own_control_group_count(server: EmbeddedServer, proc: Path, tmp_path: Path) -> None:
    inner = tmp_path / "cgroup" / "system.slice" / "postgresql.service"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner / "cpu.max").write_text("100000 100000\n")
    (inner.parent / "memory.max").write_text(f"{GIGABYTE}\n")
    with server.target("postgres").connect() as connection:
        appears(proc, connection, title="postgres: app\0", cgroup="0::/system.slice/postgresql.service\n")
        assert machine(connection, proc, tmp_path / "cgroup") == Machine(1, GIGABYTE)


def test_limits_of_control_groups_of_version_1(server: EmbeddedServer, proc: Path, tmp_path: Path) -> None:
    for controller, values in (
        ("memory", {"memory.limit_in_bytes": str(2 * GIGABYTE)}),
        ("cpu", {"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"}),
    ):
        folder = tmp_path / "cgroup" / controller / "docker" / "1f"
        folder.mkdir(parents=True)
        for name, value in values.items():
            (folder / name).write_text(value + "\n")
    with server.target("postgres").connect() as connection:
        appears(proc, connection, title="postgres: app\0", cgroup="4:memory:/docker/1f\n2:cpu,cpuacct:/docker/1f\n")
        assert machine(connection, proc, tmp_path / "cgroup") == Machine(1, 2 * GIGABYTE)
