"""``python -m bench.data NAME --output FOLDER``: a data set as plain, custom (twice) and directory dump."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench import data
from bench.data import dumps


def main() -> int:
    """Make the dumps and print where they are."""
    parser = argparse.ArgumentParser(prog="python -m bench.data", description=__doc__)
    parser.add_argument("name", choices=data.NAMES)
    parser.add_argument("--major", type=int, default=18, help="version of PostgreSQL (default 18)")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the data (default 1)")
    parser.add_argument("--output", type=Path, required=True, help="the folder; created if missing")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    made = dumps.make(given.output, given.name, given.scale, given.major)
    for path in (made.plain, made.uncompressed, made.custom, made.folder):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
