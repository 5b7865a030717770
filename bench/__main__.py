"""``python -m bench``: medians of interleaved runs on reproducible data, as tables and plots.

By default it measures everything, which takes some hours. Each result is stored in a file at once, next to earlier
ones, so that one part can be measured again; ``python -m bench.report`` shows them at any time. ``--short`` verifies
that everything works: small data, one round, nothing stored without ``--output``. Returns 1 when lastgood failed
or takes more processor time to start than its goals allow.
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

import lastgood
from bench import contest, costs, data, difference, facts, growth, in_place, report, salvage, service, start
from bench.contestants import CONTESTANTS, LASTGOOD_ALL
from bench.data import DEMO_SCALE, dumps
from bench.measure import ProgramFailed
from bench.results import Contest, Results
from lastgood.postgres import embedded

PARTS = ("start", "restores", "growth", "costs", "service", "in-place", "facts", "difference", "salvage")
MAJORS = (15, 18)
HOSTED = 17  # what hosted projects run
STARTS = "Start of a command"


@dataclass(slots=True)
class Session:
    """The parts to measure, how to measure them, and where the results go. ``folder`` has the dumps."""

    folder: Path
    scale: float
    rounds: int
    short: bool
    keep: Path | None
    results: Results

    def add(self, **found: object) -> None:
        """Replace old results by new ones, and store all of them."""
        self.results = self.results.model_copy(update=found)
        if self.keep is not None:
            self.results.written(self.keep)


def main() -> int:
    """Measure as the module describes."""
    given = _given()
    # As installed: pip compiles packages, and a measured program must not do so at each start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(Path(lastgood.__file__).parent, quiet=1)
    folder = given.dumps
    scale, rounds = (0.002, 1) if given.short else (1.0, 3)
    sets = data.NAMES[:1] if given.short else data.NAMES
    majors = MAJORS[-1:] if given.short else tuple(major for major in MAJORS if embedded.programs(major))
    output = given.output or (None if given.short else report.OUTPUT)
    keep = output.with_suffix(".json") if output is not None else None
    old = Results.at(keep) if keep is not None else Results()
    memory = f"{psutil.virtual_memory().total / 1e9:.0f} GB of memory"
    machine = f"{os.cpu_count()} processors ({platform.machine()}), {memory}, Python {platform.python_version()}"
    try:
        with tempfile.TemporaryDirectory(prefix="lastgood-bench-") as temporary:
            session = Session(
                folder=folder or Path(temporary),
                scale=given.scale or scale,
                rounds=given.rounds or rounds,
                short=given.short,
                keep=keep,
                results=old.model_copy(update={"machine": machine}),
            )
            session.folder.mkdir(parents=True, exist_ok=True)
            for part in given.parts or PARTS:
                MEASURED[part](session, given.majors or majors, given.data or sets, given.contestants)
    except ProgramFailed as error:
        _log(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    with tempfile.TemporaryDirectory(prefix="lastgood-bench-") as temporary:
        print(report.written(session.results, output or Path(temporary) / "measurements.md"))
    # One short round is no measurement of speed.
    return 1 if _broken(session.results) or (_slow_to_start(session.results) and not given.short) else 0


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)} (default all)")
    parser.add_argument("--data", nargs="+", choices=data.NAMES, help="data sets of the restores (default all)")
    parser.add_argument("--contestants", nargs="+", choices=[*CONTESTANTS], help="who restores (default all)")
    parser.add_argument("--majors", nargs="+", type=int, help="versions of PostgreSQL (default 15, if here, and 18)")
    parser.add_argument("--scale", type=float, help="size of the data; 1 is a CRM of 1.2 GB (default)")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (default 3)")
    parser.add_argument("--short", action="store_true", help="small data and one round")
    parser.add_argument("--dumps", type=Path, metavar="FOLDER", help="where dumps are kept for later runs")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"where the report goes (default {report.OUTPUT})")
    given = parser.parse_args()
    for part in given.parts:
        if part not in PARTS:
            parser.error(f"there is no part {part!r}; choose from {', '.join(PARTS)}")
    return given


def _restores(session: Session, majors: Sequence[int], sets: Sequence[str], who: Sequence[str] | None) -> None:
    for major in majors:
        for name in sets:
            made = dumps.kept(session.folder, name, session.scale, major)
            held = contest.held(
                made,
                name=name,
                major=major,
                scale=session.scale,
                rounds=session.rounds,
                who=tuple(who or CONTESTANTS),
                log=_log,
            )
            session.add(contests={**session.results.contests, f"{name}-{major}": held})


def _growth(session: Session, majors: Sequence[int], sets: Sequence[str], who: Sequence[str] | None) -> None:
    for major in majors:
        parts = growth.SCALES[:1] if session.short else growth.SCALES
        found = growth.measured(session.folder, major, session.scale, session.rounds, _log, parts)
        session.add(growth={**session.results.growth, major: found})


def _costs(session: Session, majors: Sequence[int], sets: Sequence[str], who: Sequence[str] | None) -> None:
    for major in majors:
        _log(f"costs of the pieces, PostgreSQL {major}")
        found = costs.measured(session.folder, session.scale, major)
        session.add(costs={**session.results.costs, major: found})


def _service(session: Session, majors: Sequence[int], sets: Sequence[str], who: Sequence[str] | None) -> None:
    found = service.measured(DEMO_SCALE * session.scale, majors[-1], session.rounds, _log)
    session.add(other={**session.results.other, "Rollback and undo": found})


def _in_place(session: Session, majors: Sequence[int], sets: Sequence[str], who: Sequence[str] | None) -> None:
    major = HOSTED if HOSTED in embedded.available() else majors[-1]
    found = in_place.measured(session.scale, major, _log, reader=0 if session.short else 6)
    session.add(other={**session.results.other, "In place": found})


def _facts(session: Session, majors: Sequence[int], sets: Sequence[str], who: Sequence[str] | None) -> None:
    found = facts.measured(max(1, round(1000 * session.scale)), session.rounds, _log)
    session.add(other={**session.results.other, "Facts of wide rows": found})


def _difference(session: Session, majors: Sequence[int], sets: Sequence[str], who: Sequence[str] | None) -> None:
    found = difference.measured(DEMO_SCALE * session.scale, majors[-1], session.rounds, _log)
    session.add(other={**session.results.other, "Differences": found})


def _salvage(session: Session, majors: Sequence[int], sets: Sequence[str], who: Sequence[str] | None) -> None:
    found = salvage.measured(session.scale, majors[-1], session.rounds, _log)
    session.add(other={**session.results.other, "Salvage": found})


def _start(session: Session, majors: Sequence[int], sets: Sequence[str], who: Sequence[str] | None) -> None:
    found = start.measured(majors[-1], session.rounds, _log, runs=1 if session.short else 5)
    session.add(other={**session.results.other, STARTS: found})


MEASURED: dict[str, Callable[[Session, Sequence[int], Sequence[str], Sequence[str] | None], None]] = {
    "start": _start,
    "restores": _restores,
    "growth": _growth,
    "costs": _costs,
    "service": _service,
    "in-place": _in_place,
    "facts": _facts,
    "difference": _difference,
    "salvage": _salvage,
}


def _broken(results: Results) -> bool:
    held: list[Contest] = [*results.contests.values(), *(one for each in results.growth.values() for one in each)]
    return any(one.contestants[name].error for one in held for name in LASTGOOD_ALL if name in one.contestants)


def _slow_to_start(results: Results) -> bool:
    starts = results.other.get(STARTS)
    return starts is not None and any(start.MISSED in remark for _, _, remark in starts.rows)


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
