"""The plots of the measurements: SVG, the same bytes for the same figures."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.contestants import FLOOR, LASTGOOD, PSQL
from bench.results import Results

STYLE: Any = {
    "svg.hashsalt": "lastgood",
    "svg.fonttype": "none",  # text stays text: small files, and readers can search them
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
OURS, THEIRS, BOTTOM = "#1b6ca8", "#b8bec6", "#e3a23c"


def contests(results: Results, path: Path) -> bool:
    """Bars of the seconds of each contestant, side by side, a panel for each data set and server version. Return False
    and write no file when nothing was measured."""
    found = sorted(results.contests.values(), key=lambda c: (c.data != "crm", c.data, c.major))
    majors = sorted({contest.major for contest in found})
    sets = list(dict.fromkeys(contest.data for contest in found))
    if not found:
        return False
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * len(majors), 2.3 * len(sets)), layout="constrained")
        panels = figure.subplots(len(sets), len(majors), squeeze=False)
        for row in panels:
            for panel in row:
                panel.set_axis_off()
        for contest in found:
            panel = panels[sets.index(contest.data)][majors.index(contest.major)]
            panel.set_axis_on()
            shown = [*contest.contestants.items()][::-1]
            # One that failed has a place, but no bar.
            runs = [[run.seconds for run in who.runs] or [0.0] for _, who in shown]
            seconds = [statistics.median(each) for each in runs]
            spread = [
                [middle - min(each) for middle, each in zip(seconds, runs, strict=True)],
                [max(each) - middle for middle, each in zip(seconds, runs, strict=True)],
            ]
            bars = panel.barh(
                [name for name, _ in shown],
                seconds,
                xerr=spread,
                color=[_color(name) for name, _ in shown],
                error_kw={"linewidth": 0.8, "ecolor": "#555555"},
            )
            labels = [f"{who.median():.1f}" if who.runs else "failed" for _, who in shown]
            panel.bar_label(bars, labels, padding=4, fontsize=8)
            panel.margins(x=0.15)
            panel.set_title(
                f"{contest.data}, {contest.plain_bytes / 1e9:.2g} GB, PostgreSQL {contest.major}",
                loc="left",
                fontsize=9,
            )
            panel.set_xlabel("seconds")
        _save(figure, path)
    return True


def growth(results: Results, path: Path) -> bool:
    """Seconds against the size of the dump. Return False and write no file when nothing was measured."""
    if not results.growth:
        return False
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * len(results.growth), 3), layout="constrained")
        panels = figure.subplots(1, len(results.growth), squeeze=False)[0]
        for panel, (major, measured) in zip(panels, sorted(results.growth.items()), strict=True):
            for name in (PSQL, LASTGOOD):
                points = [(c.plain_bytes / 1e9, c.contestants[name]) for c in measured if c.contestants[name].runs]
                panel.plot(
                    [size for size, _ in points],
                    [who.median() for _, who in points],
                    marker="o",
                    markersize=4,
                    label=name,
                    color=_color(name),
                )
            panel.set_xlim(left=0)
            panel.set_ylim(bottom=0)
            panel.set_xlabel("GB of plain dump")
            panel.set_ylabel("seconds")
            panel.set_title(f"PostgreSQL {major}", loc="left", fontsize=9)
            panel.legend(frameon=False)
        _save(figure, path)
    return True


def _color(contestant: str) -> str:
    return OURS if contestant.startswith("lastgood") else BOTTOM if contestant == FLOOR else THEIRS


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})
