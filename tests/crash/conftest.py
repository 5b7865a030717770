"""The table at the end of a campaign."""

from __future__ import annotations

from collections import Counter

import pytest

# What was tried, by what it was about, and what came of it. With several processes each report comes to the first one.
_TRIED: Counter[str] = Counter()
_RIGHT: Counter[str] = Counter()


class Tally:
    """What a test tries, and how often. A plain dictionary: reports travel between processes, which know no other."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """What a test tries: counted as right when the test passes."""
    made = Tally()
    request.node.user_properties.append(("tally", made.counts))
    return made


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "call" or "tests/crash/" not in report.nodeid:
        return
    module = report.nodeid.partition("::")[0].rpartition("/")[2].removeprefix("test_").removesuffix(".py")
    given: Counter[str] = Counter()
    for name, counts in report.user_properties:
        if name == "tally" and isinstance(counts, dict):
            given.update(counts)
    for entry, count in (given or {f"{module}: {_kind(report.nodeid)}": 1}).items():
        _TRIED[entry] += count
        _RIGHT[entry] += count if report.passed else 0


def _kind(nodeid: str) -> str:
    """``point-kind`` of a test that has them, or the test's name."""
    name, _, parameters = nodeid.rpartition("::")[2].partition("[")
    kind = parameters.rstrip("]").rpartition("-")[2]
    return f"fault points, {kind}" if kind in ("kill", "terminate", "enospc", "cut") else name.removeprefix("test_")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _TRIED:
        terminalreporter.section("crash campaign: what was tried, how often, how often it was right")
        for entry, count in sorted(_TRIED.items()):
            terminalreporter.line(f"{entry:<72} {count:>7} {_RIGHT[entry]:>7}")
