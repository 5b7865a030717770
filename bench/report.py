"""``python -m bench.report``: tables and plots of the stored measurements."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from bench import growth, host, plot, simulate
from bench.contestants import LASTGOOD, PG_RESTORE_ALL, PSQL
from bench.goals import GOALS, MIB
from bench.measure import Series
from bench.results import Contest, Contestant, Results

RESULTS = Path("docs/measurements.json")
OUTPUT = Path("docs/measurements.md")
# The text after this line is written by hand and kept.
BY_HAND = "<!-- What follows is written by hand; python -m bench leaves it alone. -->"


def written(results: Results, output: Path) -> str:
    """Write the report to ``output`` and the plots next to it. Return its text without the part written by hand."""
    output.parent.mkdir(parents=True, exist_ok=True)
    plots = [
        path.name
        for path, drawn in (
            (output.with_suffix(".svg"), plot.contests(results, output.with_suffix(".svg"))),
            (output.with_name("growth.svg"), plot.growth(results, output.with_name("growth.svg"))),
        )
        if drawn
    ]
    text = "\n".join(_lines(results, plots))
    before = output.read_text(encoding="utf-8") if output.exists() else ""
    _, mark, by_hand = before.partition(BY_HAND)
    output.write_text(f"{text}\n{BY_HAND}{by_hand if mark else chr(10)}", encoding="utf-8")
    return text


def _lines(results: Results, plots: list[str]) -> Iterator[str]:
    settings = ", ".join(f"`{name} = {value}`" for name, value in host.SETTINGS.items())
    yield "# Measurements\n"
    yield f"Made by `make bench`; {results.machine}. The servers run on the same machine: {settings}.\n"
    yield from _goals(results)
    for name in plots:
        yield f"![{name.removesuffix('.svg')}]({name})\n"
    if results.contests:
        yield "## Restores\n"
        yield (
            "Each contestant fills an empty database from the same data. They take turns, round after round, each on "
            "an idle server with no dirty buffers; the dumps are in the system's cache. Seconds are the median of all "
            "rounds, with the minimum and the maximum in brackets. The custom archives of pg_restore and lastgood are "
            "uncompressed (`-Z0`); the directories have pg_dump's default compression. Only `lastgood restore` also "
            "proves every table, gathers statistics and verifies every foreign key. `cp -r` copies the files of such "
            "a database, taken after a checkpoint, without waiting for the disk: the lower bound.\n"
        )
        yield (
            "CPU seconds cover all processes: the client with its children, the server with its workers. Peak memory "
            "is that of the client and its children together (PSS, sampled ten times a second), or the resident peak "
            "of the largest of them if that is more. WAL is the volume that the server inserted.\n"
        )
    for contest in sorted(results.contests.values(), key=lambda c: (c.major, c.data)):
        yield from _contest(contest)
    yield from _growth(results)
    yield from _simulated(results)
    for name, lines in results.other.items():
        yield f"## {name}\n"
        yield f"{lines.how}\n"
        yield "| what | median (smallest–greatest) | |"
        yield "| --- | --- | --- |"
        yield from (f"| {what} | {value} | {remark} |" for what, value, remark in lines.rows)
        yield ""


def _goals(results: Results) -> Iterator[str]:
    majors = sorted({c.major for c in results.contests.values()} | set(results.growth) | set(results.costs))
    if not majors:
        return
    yield "| lastgood restores | goal | " + " | ".join(f"PostgreSQL {major}" for major in majors) + " |"
    yield "| --- | --- |" + " --- |" * len(majors)
    for goal in GOALS:
        cells = []
        for major in majors:
            value = goal.value(results, major)
            cells.append("–" if value is None else goal.text(value) + ("" if goal.met(value) else " (missed)"))
        wanted = goal.wanted if goal.limit != float("inf") else ""
        yield f"| {goal.what} | {wanted} | {' | '.join(cells)} |"
    yield ""


def _contest(contest: Contest) -> Iterator[str]:
    yield f"### {contest.data}, PostgreSQL {contest.version}\n"
    yield (
        f"Scale {contest.scale:.3g}: plain dump {contest.plain_bytes / 1e6:,.0f} MB, files of the database "
        f"{contest.database_bytes / 1e6:,.0f} MB; {contest.made}.\n"
    )
    yield "| contestant | seconds | × psql | × best pg_restore | client CPU | server CPU | WAL | peak memory |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    psql = contest.contestants.get(PSQL)
    best = min(
        (c for name in PG_RESTORE_ALL if (c := contest.contestants.get(name)) and c.runs),
        key=lambda c: c.median(),
        default=None,
    )
    for name, who in contest.contestants.items():
        if not who.runs:
            yield f"| {name} | failed: {_error_line(who.error or '')} | | | | | | |"
            continue
        yield (
            f"| {name} | {_seconds(who)} | {_over(who, psql)} | "
            f"{_over(who, best)} | {who.median('client'):.1f} s | {who.median('server'):.1f} s | "
            f"{who.median('wal') / 1e6:,.0f} MB | {who.peak / MIB:.0f} MiB |"
        )
    yield ""
    for name, who in contest.contestants.items():
        if who.runs and who.runs[0].parts:
            stages = ", ".join(f"{part} {who.part(part):.1f} s" for part in who.runs[0].parts if part != "total")
            yield f"* {name}: {stages}."
    yield ""


def _seconds(who: Contestant) -> str:
    return Series(tuple(run.seconds for run in who.runs)).text("s", 1 if who.median() >= 10 else 2)


def _error_line(output: str) -> str:
    """The line of a failed program's output that states the error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")


def _over(who: Contestant, other: Contestant | None) -> str:
    return f"{who.median() / other.median():.2f}" if other is not None and other.runs else ""


def _growth(results: Results) -> Iterator[str]:
    if not results.growth:
        return
    yield "## Growth\n"
    yield "The CRM at several sizes; seconds, and seconds for each GB (10^9 bytes) of plain dump.\n"
    yield "| PostgreSQL | plain dump | lastgood | a GB | psql | a GB |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for major, contests in sorted(results.growth.items()):
        for contest in contests:
            cells = []
            for name in (LASTGOOD, PSQL):
                who = contest.contestants[name]
                seconds = who.median() if who.runs else None
                cells += (
                    [f"{seconds:.1f} s", f"{seconds / contest.plain_bytes * 1e9:.1f} s"] if seconds else ["failed", ""]
                )
            yield f"| {major} | {contest.plain_bytes / 1e6:,.0f} MB | {' | '.join(cells)} |"
    yield ""
    for major, contests in sorted(results.growth.items()):
        off = growth.off_the_line(contests)
        if off is not None:
            yield f"PostgreSQL {major}: a byte of the largest costs lastgood {abs(off):.0%} " + (
                "more than a byte of the smallest.\n" if off > 0 else "less than a byte of the smallest.\n"
            )


def _simulated(results: Results) -> Iterator[str]:
    for major, costs in sorted(results.costs.items()):
        yield f"## Simulated, PostgreSQL {major}\n"
        yield (
            f"{simulate.GIGABYTES:.0f} GB of the CRM's shape on more cores: the engine's tasks in the order of its "
            "schedule, each with its measured cost on one core. Memory and disk are assumed to keep up, and sessions "
            "not to slow each other down. Before the tasks, one process reads the dump.\n"
        )
        yield simulate.table_of([simulate.forecast(costs, cores=cores) for cores in simulate.CORES])
        yield ""


def main() -> int:
    """Write the report again, from the stored measurements."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    written(Results.at(given.results), given.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
