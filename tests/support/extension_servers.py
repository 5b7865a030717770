"""Servers with extensions of our own in addition to PostgreSQL's, without changing the shared installation."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lastgood.postgres.embedded import EmbeddedServer, programs

OURS = Path(__file__).parents[1] / "fixtures" / "extensions"


@contextmanager
def extended_server(
    major: int, *, folder: Path = OURS, settings: Mapping[str, str] | None = None
) -> Iterator[EmbeddedServer]:
    """A server of its own whose SHAREDIR/extension also holds the files of ``folder``.

    PostgreSQL finds its shared files by the place of its programs: these are copied, all else is linked to.
    """
    found = programs(major)
    assert found is not None  # the caller asked for a version that is here
    root = Path(tempfile.mkdtemp(prefix="lgx", dir=EmbeddedServer.place))
    root.chmod(0o755)
    try:
        with EmbeddedServer(major, settings=settings, bin=_installed(found, root, folder)) as server:
            yield server
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _installed(found: Path, root: Path, folder: Path) -> Path:
    if found.is_relative_to("/usr"):
        # Debian: /usr/lib/postgresql/15/bin and /usr/share/postgresql/15.
        install = root / found.parent.relative_to("/usr")
        shared = root / "share" / found.parent.relative_to("/usr/lib")
        _linked(found.parent, install)
        _linked(Path("/usr/share") / found.parent.relative_to("/usr/lib"), shared)
    else:
        # A wheel: it looks for its bundled libraries three folders up, see lastgood.postgres.embedded.
        package = found.parent.parent
        install = root / package.name / found.parent.name
        shutil.copytree(found.parent, install, symlinks=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, root / libraries.name, symlinks=True)
        shared = next(path.parent for path in install.glob("share/**/extension/plpgsql.control")).parent
    if (install / "bin").is_symlink():
        (install / "bin").unlink()
        shutil.copytree(found, install / "bin", symlinks=True)
    if (shared / "extension").is_symlink():
        before = (shared / "extension").resolve()
        (shared / "extension").unlink()
        _linked(before, shared / "extension")
    for file in folder.iterdir():
        shutil.copy(file, shared / "extension" / file.name)
    for path in root.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    return install / "bin"


def _linked(real: Path, copy: Path) -> None:
    """A folder with links to everything that the real one holds."""
    copy.mkdir(parents=True)
    for path in real.iterdir():
        (copy / path.name).symlink_to(path.resolve())
