"""Dumps of a data set, in the forms that the contestants read."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench import data, host, measure
from lastgood.postgres.embedded import FAST, EmbeddedServer

# The options of pg_dump, by the suffix that the dump's name gets.
FORMS: dict[str, tuple[str, ...]] = {
    ".sql": ("-Fp",),
    ".uncompressed.dump": ("-Fc", "-Z0"),
    ".dump": ("-Fc",),
    ".folder": ("-Fd",),
}


@dataclass(frozen=True, slots=True)
class Dumps:
    """The same data in each form; ``plain_bytes`` is the size of the plain one."""

    plain: Path
    uncompressed: Path
    custom: Path
    folder: Path

    @property
    def plain_bytes(self) -> int:
        return self.plain.stat().st_size

    @classmethod
    def at(cls, folder: Path, name: str) -> Dumps:
        """The place of the dumps of that data set, existing or not."""
        plain, uncompressed, custom, directory = (folder / f"{name}{form}" for form in FORMS)
        return cls(plain, uncompressed, custom, directory)


def make(folder: Path, name: str, scale: float, major: int) -> Dumps:
    """Make a data set on a temporary server, and its dumps in ``folder``, which must exist. Older dumps of that name
    are replaced.

    Raises ProgramFailed, RuntimeError, psycopg.Error.
    """
    # Making the data is not measured: the server syncs nothing, and takes 2,000 tables in one transaction.
    with EmbeddedServer(major, settings={**host.SETTINGS, **FAST, "max_locks_per_transaction": "1024"}) as server:
        host.create(server, name)
        with server.target(name).connect() as connection:
            data.make(connection, name, scale)
        for form, options in FORMS.items():
            path = folder / f"{name}{form}"
            if path.is_dir():  # pg_dump writes into an empty folder only
                shutil.rmtree(path)
            measure.run([server.bin / "pg_dump", *options, "--file", path, server.url(name)])
    return Dumps.at(folder, name)


def kept(folder: Path, name: str, scale: float, major: int) -> Dumps:
    """The dumps that an earlier call left below ``folder``, or new ones. Raises the same as ``make``."""
    place = folder / f"{major}" / f"{name}-{scale:.4g}"
    if not place.exists():
        # An incomplete set is useless: it gets its name when it is complete.
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            made = Path(unfinished) / name
            made.mkdir()
            make(made, name, scale, major)
            place.parent.mkdir(exist_ok=True)
            made.rename(place)
    return Dumps.at(place, name)
