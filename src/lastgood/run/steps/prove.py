"""The proof of the shadow: its facts equal the restore point's, or the run stops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from lastgood.dump.deferral import Deferrable, Division
from lastgood.events import Note
from lastgood.facts.compare import FactsComparison
from lastgood.load.deferred import choice, remainder
from lastgood.load.hand_over import create_event_triggers
from lastgood.load.rebuild import prove
from lastgood.plan.plan import PlannedStep, Request
from lastgood.run.context import Run
from lastgood.run.runner import Result
from lastgood.run.steps.build import Built
from lastgood.text.units import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved(Result):
    """The proof: the shadow equals the restore point, table by table."""

    comparison: FactsComparison

    @property
    def entry(self) -> Mapping[str, Any]:
        return {"tables": len(self.comparison.tables)}


class Prove:
    """Prove the shadow as the last step before the swap, so that nothing changes in between."""

    name = "prove"
    title = "prove that it equals the restore point"
    commits = False

    def planned(self, request: Request) -> PlannedStep:
        """Describe this step in the plan."""
        return PlannedStep(
            name=self.name,
            title="Verify the restored database against the restore point",
            effect="a difference ends the run",
        )

    def do(self, run: Run) -> Proved:
        name, built = run.plan.shadow, run.result(Built)
        with run.connected(name, "prove") as shadow:
            division = built.division if built is not None else None
            if division is None and run.plan.reopen_when == "usable":
                # Another process built it.
                confined = run.plan.code is not None and run.plan.code.confined
                deferrable = Deferrable.of(run.prepared.summary.script, confined=confined)
                division = choice.built(shadow, deferrable, allow_orphans=run.plan.allow_orphans)
            dump = replace(run.dump, division=division)
            if built is not None and built.comparison is not None:
                # Only its operator was in it since.
                proved = self._proved(run, built.comparison, division)
                if built.builder is not None and built.rules is not None:
                    # Owners, grants and the list of deferred work are in place: no DDL follows.
                    create_event_triggers(built.builder, dump, built.rules, built.loaded, run.context)
                return proved
            same = built.loaded.same if built is not None else {}
            comparison = prove(shadow, dump, same, run.context, connect=partial(run.connected, name))
        return self._proved(run, comparison, division)

    def _proved(self, run: Run, comparison: FactsComparison, division: Division | None) -> Proved:
        if division is not None:
            # After the proof, because the list is not part of the restore point.
            with run.connected(run.plan.shadow, "records what is left") as shadow:
                remainder.write(shadow, run.plan.run, division.later)
        for text in comparison.not_compared:
            run.emit(Note(text))
        tables = counted(len(comparison.tables), "table")
        rows = counted(sum(table.rows for table in comparison.tables), "row")
        return Proved(comparison=comparison, detail=f"{tables}, {rows}: all equal")

    def undo(self, run: Run) -> None:
        """Do nothing: it only reads."""

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        return False  # the shadow may have changed since the proof of another process
