"""``python -m bench.wide``: how fast a plain dump with wide rows becomes facts; adds its lines to the measurements.

Rows of about 1 KB, made by a seeded generator: what is measured is reading, checking and digesting, not any server.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from bench import measure
from bench.measure import Series
from lastgood.dump.formats import open_dump
from lastgood.facts.of_dump import facts_of_dump

HEAD = """--
-- PostgreSQL database dump
--

-- Dumped from database version 18.6
-- Dumped by pg_dump version 18.6

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
CREATE TABLE public.documents (id integer, body text, changed timestamp with time zone);
COPY public.documents (id, body, changed) FROM stdin;
"""
FOOT = "\\.\n\n\n--\n-- PostgreSQL database dump complete\n--\n\n"
WORDS = 2000
WORDS_A_ROW = 30


def main() -> int:
    """Measures, prints, and appends to ``--output`` if given."""
    parser = argparse.ArgumentParser(prog="python -m bench.wide", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the dump (default 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="how often it is measured (default 3)")
    parser.add_argument("--output", type=Path, help="the file to append to")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lastgood-bench-") as folder:
        path = Path(folder) / "wide.sql"
        _make(path, given.megabytes * 1_000_000)
        size = path.stat().st_size / 1e6
        alone, whole, peak = [], [], 0
        for _ in range(given.rounds):
            started = time.monotonic()
            facts_of_dump(open_dump(path))
            alone.append(size / (time.monotonic() - started))
            run = measure.run([sys.executable, "-m", "lastgood", "--store", folder, "facts", path, "--json"])
            whole.append(size / run.seconds)
            peak = max(peak, run.peak)
    text = "\n".join(
        (
            "",
            f"By `python -m bench.wide --megabytes {given.megabytes} --rounds {given.rounds}` on the same machine:",
            "",
            "| what | median (smallest–greatest) | |",
            "| --- | --- | --- |",
            f"| facts of a plain dump with rows of 1 KB | {Series(tuple(alone)).text('MB/s', 0)} | in one process |",
            f"| the same by `lastgood facts FILE` | {Series(tuple(whole)).text('MB/s', 0)} | starting Python included; "
            f"peak memory {peak / (1 << 20):.0f} MiB |",
            "",
        )
    )
    print(text)
    if given.output is not None:
        with given.output.open("a", encoding="utf-8") as file:
            file.write(text)
    return 0


def _make(path: Path, size: int) -> None:
    chance = random.Random(1)
    words = [f"{chance.getrandbits(128):032x}" for _ in range(WORDS)]
    with path.open("w", encoding="ascii") as file:
        file.write(HEAD)
        written, number = 0, 0
        while written < size:
            body = "".join(words[(number * 7 + place) % WORDS] for place in range(WORDS_A_ROW))
            written += file.write(f"{number}\t{body}\t2024-01-01 00:00:{number % 60:02d}+00\n")
            number += 1
        file.write(FOOT)


if __name__ == "__main__":
    sys.exit(main())
