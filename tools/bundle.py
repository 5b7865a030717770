"""Makes one file that runs on a machine with Python and without pip: ``python -m tools.bundle WHEEL FOLDER [3.N…]``.

The file, ``lastgood-py3.N.pyz``, holds lastgood and everything that it imports, for Python 3.N (by default the version
that runs this), which need not be on this machine. shiv turns them into a program that unpacks itself into ~/.shiv (or
SHIV_ROOT) when it is first run.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Debian 11, Ubuntu 20.04 and later have at least the C library of these wheels.
PLATFORMS = ("manylinux2014", *(f"manylinux_2_{minor}" for minor in (17, 24, 26, 27, 28, 31)))
PREAMBLE = """\
import sys
if sys.version_info[:2] != (3, {minor}):
    sys.exit("error: cannot start lastgood: this file is for Python 3.{minor}, not %d.%d" % sys.version_info[:2])
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


def bundle(wheel: Path, minor: int, folder: Path) -> Path:
    """Write the program for Python 3.``minor`` into ``folder`` and return its path. Raises CalledProcessError."""
    output = folder / f"lastgood-py3.{minor}.pyz"
    with tempfile.TemporaryDirectory(prefix="lastgood-bundle-") as name:
        packages, preamble = Path(name, "packages"), Path(name, "preamble.py")
        gather(wheel, minor, packages)
        preamble.write_text(PREAMBLE.format(minor=minor), encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                *(sys.executable, "-m", "shiv", "--compressed", "--site-packages", str(packages)),
                *("--entry-point", "lastgood.__main__:main", "--python", f"/usr/bin/env python3.{minor}"),
                *("--preamble", str(preamble), "--output-file", str(output)),
            ],
            env={**os.environ, "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", "1577836800")},
            check=True,
        )
    return output


def main(arguments: list[str]) -> None:
    """Write the programs for the given versions."""
    wheel, folder, *versions = arguments
    for version in versions or [f"3.{sys.version_info.minor}"]:
        print(bundle(Path(wheel), int(version.removeprefix("3.")), Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
