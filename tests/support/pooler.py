"""A PgBouncer of a test's own: Debian's program, on a Unix socket in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PORT = 6432


class PgBouncer:
    """Runs until ``close``. ``databases`` is its section of that name; ``boss`` may pause, ``looker`` may only look.
    ``password`` is that of all users, if ``auth_type`` requires one."""

    def __init__(
        self, databases: Mapping[str, str], users: tuple[str, ...] = (), *, password: str = "", **settings: str
    ) -> None:
        assert PROGRAM is not None
        self.folder = Path(tempfile.mkdtemp(prefix="lgp", dir="/tmp"))  # a socket's path must be short
        lines = {
            "unix_socket_dir": str(self.folder),
            "listen_port": str(PORT),
            "auth_type": "trust",
            "auth_file": str(self.folder / "users"),
            "admin_users": "boss",
            "stats_users": "looker",
            "pool_mode": "transaction",
            "server_login_retry": "1",
            "logfile": str(self.folder / "log"),
            **settings,
        }
        text = ["[databases]", *(f"{name} = {where}" for name, where in databases.items()), "[pgbouncer]"]
        text += [f"{name} = {value}" for name, value in lines.items()]
        (self.folder / "pgbouncer.ini").write_text("\n".join(text) + "\n")
        (self.folder / "users").write_text("".join(f'"{name}" "{password}"\n' for name in ("boss", "looker", *users)))
        nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None  # it refuses to run as root
        if nobody is not None:
            self.folder.chmod(0o755)
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        self._process = subprocess.Popen(
            [PROGRAM, str(self.folder / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            user=nobody.pw_uid if nobody is not None else None,
            group=nobody.pw_gid if nobody is not None else None,
            extra_groups=[] if nobody is not None else None,
        )
        self._password = password
        deadline = time.monotonic() + 30
        while True:
            try:
                self.connect("pgbouncer", "boss").close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.close()
                    raise
            time.sleep(0.02)

    def connect(self, database: str, user: str = "postgres") -> psycopg.Connection[TupleRow]:
        """A client's session, as drivers use it behind PgBouncer: without prepared statements."""
        return psycopg.connect(
            host=str(self.folder),
            port=PORT,
            dbname=database,
            user=user,
            password=self._password or None,
            autocommit=True,
            prepare_threshold=None,
        )

    def console(self, user: str = "boss") -> str:
        """What [pgbouncer] admin is given."""
        return f"host={self.folder} port={PORT} user={user}"

    def ask(self, command: str) -> list[dict[str, str]]:
        """A command at its console, by other means than the ones under test."""
        with self.connect("pgbouncer", "boss") as connection:
            result = connection.pgconn.exec_(command.encode())
            assert not result.error_message, result.error_message.decode()
            names = [(result.fname(n) or b"").decode() for n in range(result.nfields)]
            return [
                {name: (result.get_value(row, n) or b"").decode() for n, name in enumerate(names)}
                for row in range(result.ntuples)
            ]

    def paused(self) -> set[str]:
        """The databases that are paused now."""
        return {row["name"] for row in self.ask("SHOW DATABASES") if row["paused"] == "1"}

    @property
    def log(self) -> str:
        """What it wrote."""
        return (self.folder / "log").read_text()

    def close(self) -> None:
        """Ends it and removes its folder."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
