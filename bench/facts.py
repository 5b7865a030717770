"""The speed at which a plain dump with wide rows becomes facts.

A seeded generator makes rows of about 1 KB. The measurement covers reading, checking and digesting, without a server.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import measure
from bench.measure import Series
from bench.results import Lines
from lastgood.dump.files.formats import open_dump
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


def measured(megabytes: int, rounds: int, log: Callable[[str], None]) -> Lines:
    """The MB (10^6 bytes) of such a dump that become facts in a second, alone and as a user runs it."""
    with tempfile.TemporaryDirectory(prefix="lastgood-bench-") as folder:
        path = Path(folder) / "wide.sql"
        _make(path, megabytes * 1_000_000)
        size = path.stat().st_size / 1e6
        alone, whole, peak = [], [], 0
        for number in range(rounds):
            log(f"round {number + 1} of {rounds}: facts of wide rows")
            started = time.monotonic()
            facts_of_dump(open_dump(path))
            alone.append(size / (time.monotonic() - started))
            run = measure.run([sys.executable, "-m", "lastgood", "--store", folder, "facts", path, "--json"])
            whole.append(size / run.seconds)
            peak = max(peak, run.peak)
    return Lines(
        how=f"A plain dump of {megabytes:,} MB with rows of 1 KB, {rounds} rounds.",
        rows=(
            ("its facts, in one process", Series(tuple(alone)).text("MB/s", 0), ""),
            (
                "the same by `lastgood facts FILE`",
                Series(tuple(whole)).text("MB/s", 0),
                f"starting Python included; peak memory {peak / (1 << 20):.0f} MiB",
            ),
        ),
    )


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
