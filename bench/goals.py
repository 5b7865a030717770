"""The goals, and the measurements that meet or miss them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bench import growth, simulate
from bench.contestants import FLOOR, LASTGOOD, LASTGOOD_ALL, LASTGOOD_USABLE, PG_RESTORE_2, PG_RESTORE_ALL, PSQL
from bench.results import Contest, Contestant, Results

MIB = 1 << 20
# The stages of lastgood that only prove: the facts of the dump, and those of the restored database.
PROOF = ("plan", "prove")


@dataclass(frozen=True, slots=True)
class Goal:
    """``limit``: the greatest acceptable value, or the smallest with ``at_least``. ``value`` of a server version is
    None where nothing was measured."""

    what: str
    limit: float
    value: Callable[[Results, int], float | None]
    text: Callable[[float], str]
    at_least: bool = False

    @property
    def wanted(self) -> str:
        """As ``≤ 0.55 ×``."""
        return f"{'≥' if self.at_least else '≤'} {self.text(self.limit)}"

    def met(self, value: float) -> bool:
        """Whether the value meets the goal."""
        return value >= self.limit if self.at_least else value <= self.limit


def _ratio(data: str, who: str, others: Iterable[str]) -> Callable[[Results, int], float | None]:
    """The median of one against the best median of some others."""

    def value(results: Results, major: int) -> float | None:
        contest = results.contests.get(f"{data}-{major}")
        if contest is None or not (own := _ran(contest, (who,))) or not (other := _ran(contest, others)):
            return None
        return own[0].median() / min(one.median() for one in other)

    return value


def _keys_few(results: Results, major: int) -> float | None:
    """Half a second is the start-up time, however little there is to do."""
    contest = results.contests.get("keys-few-" + str(major))
    if contest is None or not (own := _ran(contest, (LASTGOOD,))) or not (other := _ran(contest, (PSQL,))):
        return None
    return own[0].median() / (other[0].median() + 0.5)


def _keys_growth(results: Results, major: int) -> float | None:
    """The time of a table of the larger set, as a share of the time of one of the smaller set."""
    pairs = [(results.contests.get(f"{name}-{major}"), part) for name, part in (("keys", 1.0), ("keys-few", 0.12))]
    costs = [own[0].median() / part for contest, part in pairs if contest and (own := _ran(contest, (LASTGOOD,)))]
    return costs[0] / costs[1] if len(costs) == 2 else None


def _ran(contest: Contest, names: Iterable[str]) -> list[Contestant]:
    return [one for name in names if (one := contest.contestants.get(name)) is not None and one.runs]


def _of_crm(results: Results, major: int) -> Contestant | None:
    contest = results.contests.get(f"crm-{major}")
    return next(iter(_ran(contest, (LASTGOOD,))), None) if contest is not None else None


def _proof_share(results: Results, major: int) -> float | None:
    who = _of_crm(results, major)
    return who.part(*PROOF) / who.median() if who is not None else None


def _peak(results: Results, major: int) -> float | None:
    contests = [contest for contest in results.contests.values() if contest.major == major]
    peaks = [who.peak for c in contests for who in _ran(c, (*LASTGOOD_ALL, LASTGOOD_USABLE))]
    return max(peaks) / MIB if peaks else None


def _growth(results: Results, major: int) -> float | None:
    return growth.off_the_line(results.growth.get(major, ()))


def _simulated(cores: int) -> Callable[[Results, int], float | None]:
    def value(results: Results, major: int) -> float | None:
        costs = results.costs.get(major)
        if costs is None:
            return None
        return simulate.forecast(costs, cores=cores).efficiency

    return value


def _times(value: float) -> str:
    return f"{value:.2f} ×"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _mib(value: float) -> str:
    return f"{value:.0f} MiB"


OTHERS = (PSQL, "psql -1", *PG_RESTORE_ALL)
GOALS = (
    Goal("the CRM, against `psql`", 0.55, _ratio("crm", LASTGOOD, (PSQL,)), _times),
    Goal("the CRM, against the best `pg_restore -j N`", 0.80, _ratio("crm", LASTGOOD, PG_RESTORE_ALL), _times),
    Goal("the CRM, usable, against `psql`", 0.35, _ratio("crm", LASTGOOD_USABLE, (PSQL,)), _times),
    Goal("a giant table, against `pg_restore -j 2`", 0.65, _ratio("giant", LASTGOOD, (PG_RESTORE_2,)), _times),
    Goal("4,000 foreign keys to five tables, against psql", 1.0, _ratio("keys", LASTGOOD, (PSQL,)), _times),
    Goal("480 foreign keys to five tables, against psql and half a second", 1.0, _keys_few, _times),
    Goal("a foreign key of 4,000, against one of 480", 1.0, _keys_growth, _times),
    Goal("2,000 small tables, against the best of the others", 1.0, _ratio("small", LASTGOOD, OTHERS), _times),
    Goal("the proof, share of the CRM's restore (reading back not counted)", 0.20, _proof_share, _percent),
    Goal("peak memory of lastgood, any data set", 200.0, _peak, _mib),
    Goal("a byte of 1.2 GB costs more than one of 0.1 GB by", 0.15, _growth, _percent),
    Goal("simulated, 16 cores, 100 GB: share of what is possible", 0.70, _simulated(16), _times, at_least=True),
    Goal("simulated, 64 cores, 100 GB: share of what is possible", 0.70, _simulated(64), _times, at_least=True),
    Goal("for comparison: the CRM, against copying its files", float("inf"), _ratio("crm", LASTGOOD, (FLOOR,)), _times),
)
