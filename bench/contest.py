"""One contest: the contestants restore the same data in turn, round after round, so that other load on the machine
affects all of them alike."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import effort, host
from bench.contestants import CONTESTANTS, DATABASE, Ring, kept_files
from bench.data.dumps import Dumps
from bench.measure import ProgramFailed
from bench.results import Contest, Contestant, Run
from demo import crm
from lastgood.postgres.embedded import EmbeddedServer

SHOWN = 1000


def held(
    dumps: Dumps, *, name: str, major: int, scale: float, rounds: int, who: Sequence[str], log: Callable[[str], None]
) -> Contest:
    """Hold the contest. Each round has an order of its own, the same in every contest. A contestant that failed once
    does not take part again.

    Every run starts on a server without dirty buffers, with the dumps in the system's cache.
    """
    runs: dict[str, list[Run]] = {contestant: [] for contestant in who}
    failed: dict[str, str] = {}
    with (
        tempfile.TemporaryDirectory(prefix="lastgood-contest-") as folder,
        EmbeddedServer(major, settings=host.SETTINGS) as server,
    ):
        with server.target("postgres").connect() as admin:
            crm.make_roles(admin)  # the demo's dump names them
            version = str(admin.info.parameter_status("server_version")).split()[0]
        ring = Ring(server, dumps, kept_files(server, dumps, Path(folder)), Path(folder) / "state")
        for number in range(rounds):
            for contestant in random.Random(number).sample(who, len(who)):
                if contestant in failed:
                    continue
                try:
                    run = CONTESTANTS[contestant](ring)
                except ProgramFailed as error:
                    failed[contestant] = error.output[-SHOWN:].strip()
                    log(f"{name} {major}: {contestant} failed: {failed[contestant]}")
                else:
                    runs[contestant].append(run)
                    log(f"{name} {major}, round {number + 1} of {rounds}: {contestant} {run.seconds:.1f} s")
                host.drop(server, DATABASE)
        return Contest(
            data=name,
            major=major,
            version=version,
            scale=scale,
            plain_bytes=dumps.plain_bytes,
            database_bytes=effort.bytes_below(ring.files),
            made=f"{datetime.now(UTC):%Y-%m-%d}",
            contestants={c: Contestant(runs=tuple(runs[c]), error=failed.get(c)) for c in who},
        )
