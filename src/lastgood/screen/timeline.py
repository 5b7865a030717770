"""A timeline chart: one bar for each phase, on a common time axis.

SVG for separate display and within a page, in light and dark mode; colours are repeated in words.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lastgood.screen.markdown import one_line
from lastgood.text import units

Outcome = Literal["done", "failed", "skipped"]

# The part for the labels is as wide as the longest of them needs, at a mean width of a character.
CHART, ROW, MARGIN = 660, 26, 16
CHARACTER, LABELS = 6.9, 120
_COLORS: dict[Outcome, str] = {"done": "#3d7ab8", "failed": "#c4382d", "skipped": "#8a94a3"}
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
TICKS = 8


@dataclass(frozen=True, slots=True)
class Bar:
    """A phase, in seconds since the start; an instant if both are equal."""

    name: str
    begin: float
    end: float
    outcome: Outcome = "done"


def timeline(title: str, bars: Sequence[Bar]) -> str:
    """Render the chart as SVG; the bars from top to bottom in the given order."""
    total = max((bar.end for bar in bars), default=0.0) or 1.0
    height = MARGIN + ROW * len(bars) + ROW + MARGIN
    left = max(LABELS, *(round(CHARACTER * len(one_line(bar.name))) + MARGIN for bar in bars)) if bars else LABELS
    width, scale = left + CHART, (CHART - 5 * MARGIN) / total
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" font-family="system-ui, sans-serif" font-size="13" fill="currentColor">',
        f"<title>{_escaped(title)}</title>",
    ]
    bottom = MARGIN + ROW * len(bars)
    for seconds in _ticks(total):
        x = left + seconds * scale
        parts.append(
            f'<line x1="{x:.1f}" y1="{MARGIN}" x2="{x:.1f}" y2="{bottom}" stroke="currentColor" opacity="0.15"/>'
            f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" opacity="0.7">{_tick(seconds, total)}</text>'
        )
    for place, bar in enumerate(bars):
        parts.append(_draw(bar, left, MARGIN + ROW * place, scale))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _draw(bar: Bar, left: int, y: float, scale: float) -> str:
    x, length = left + bar.begin * scale, max((bar.end - bar.begin) * scale, 2.0)
    took = units.duration(bar.end - bar.begin) if bar.end > bar.begin else ""
    note = ", ".join(part for part in (took, bar.outcome if bar.outcome != "done" else "") if part)
    after = x + length + 6
    place = f'x="{after:.1f}"' if after < left + CHART - 6 * MARGIN else f'x="{x - 6:.1f}" text-anchor="end"'
    return (
        f"<g><title>{_escaped(bar.name)}</title>"
        f'<text x="{left - 10}" y="{y + 17}" text-anchor="end">{_escaped(bar.name)}</text>'
        f'<rect x="{x:.1f}" y="{y + 5}" width="{length:.1f}" height="{ROW - 10}" rx="2" fill="{_COLORS[bar.outcome]}"/>'
        f'<text {place} y="{y + 17}" font-size="12">{_escaped(note)}</text></g>'
    )


def _ticks(total: float) -> list[float]:
    step = next((float(each) for each in _STEPS if total / each <= TICKS), total / TICKS)
    if total < 1:
        step = total / 4
    return [place * step for place in range(int(total / step) + 1)]


def _tick(seconds: float, total: float) -> str:
    if total < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.0f} s" if total < 120 else units.duration(seconds)


def _escaped(text: str) -> str:
    return html.escape(one_line(text))
