"""Makes one file that runs on a machine with Python and without pip: ``python -m tools.bundle WHEEL OUTPUT``.

The file holds lastgood and everything that it imports, for each version of Python that it supports. The compiled parts
of one release of a package are named by the version of Python that they are for, so they lie side by side in one
folder; a file that two of them share must be equal in both. shiv turns the folder into a program that unpacks itself
into ~/.shiv (or SHIV_ROOT) when it is first run.
"""

from __future__ import annotations

import filecmp
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.trial import NEWEST, OLDEST

ROOT = Path(__file__).parents[1]
# Debian 11, Ubuntu 20.04 and later have at least this C library.
PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_24", "manylinux_2_26", "manylinux_2_28", "manylinux_2_31")
# A record of an installation: differs for each version of Python, and nothing reads it.
RECORDS = frozenset({"RECORD", "WHEEL", "INSTALLER", "REQUESTED", "direct_url.json", "sboms"})
PREAMBLE = f"""\
import sys
if sys.version_info < (3, {OLDEST}):
    sys.exit("error: cannot start lastgood: it needs Python 3.{OLDEST} or newer, not %d.%d" % sys.version_info[:2])
if sys.version_info >= (3, {NEWEST + 1}):
    sys.exit("error: cannot start lastgood: this file is for Python 3.{OLDEST} to 3.{NEWEST}")
"""


def gather(wheel: Path, minor: int, folder: Path) -> None:
    """Install ``wheel`` and what it needs for Python 3.``minor`` into ``folder``, without running that Python. Raises
    CalledProcessError."""
    machine = platform.machine()
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary", ":all:"),
            *("--constraint", str(ROOT / "constraints.txt"), "--target", str(folder)),
            *("--implementation", "cp", "--python-version", f"3.{minor}"),
            *(word for each in PLATFORMS for word in ("--platform", f"{each}_{machine}")),
            str(wheel),
        ],
        check=True,
    )


def merge(source: Path, into: Path) -> None:
    """Add the files below ``source`` to ``into``. Raises ValueError if a file is there with another content."""
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if path.is_dir() or RECORDS & set(inside.parts) or inside.parts[0] == "bin":
            continue
        target = into / inside
        if target.exists() and not filecmp.cmp(path, target, shallow=False):
            raise ValueError(f'cannot bundle "{inside}": it differs between versions of Python')
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


def bundle(wheel: Path, output: Path) -> None:
    """Write the program ``output``. Raises CalledProcessError, ValueError."""
    with tempfile.TemporaryDirectory(prefix="lastgood-bundle-") as name:
        packages, preamble = Path(name, "packages"), Path(name, "preamble.py")
        for minor in range(OLDEST, NEWEST + 1):
            gather(wheel, minor, Path(name, f"3.{minor}"))
            merge(Path(name, f"3.{minor}"), packages)
        preamble.write_text(PREAMBLE, encoding="utf-8")
        output.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                *(sys.executable, "-m", "shiv", "--compressed", "--site-packages", str(packages)),
                *("--entry-point", "lastgood.__main__:main", "--python", "/usr/bin/env python3"),
                *("--preamble", str(preamble), "--output-file", str(output)),
            ],
            env={**os.environ, "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", "1577836800")},
            check=True,
        )


if __name__ == "__main__":
    bundle(Path(sys.argv[1]), Path(sys.argv[2]))
