"""Restore points in staging schemas of a hosted project's database, built by lastgood itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from lastgood import points
from lastgood.context import Context
from lastgood.events import Event, Note
from lastgood.facts import Facts
from lastgood.in_place import names
from lastgood.in_place.build import prove, staged
from lastgood.in_place.build.prove import Proof
from lastgood.in_place.build.staged import Origin
from lastgood.in_place.definitions.rewrite import Rewritten, rewrite
from lastgood.in_place.platform import deleted_parents
from lastgood.in_place.platform.deleted_parents import Orphaned
from lastgood.journal.run_names import new_run
from lastgood.load.loaded import Loaded
from lastgood.load.rebuild import Dump, rules_for
from lastgood.load.repairs import Rules
from lastgood.points import RestorePoint
from lastgood.points.verdict import VerifiedPoint
from lastgood.postgres.mark import TRUSTED
from lastgood.postgres.server import Connection, Target
from tests.support.hosted import OWN


@dataclass
class Staging:
    """The stages of one run, in their order: ``rewrite``, ``find``, ``build``, ``prove``. ``target``: the live
    database."""

    target: Target
    point: RestorePoint
    schemas: tuple[str, ...] = OWN
    run: str = field(default_factory=lambda: new_run(datetime.now(UTC)))
    wishes: Rules = field(default_factory=Rules)
    events: list[Event] = field(default_factory=list)
    loaded: Loaded = field(default_factory=Loaded)

    @cached_property
    def whole(self) -> VerifiedPoint:
        return points.read_whole(self.point, skim=True, skip_rows=True)

    @property
    def name(self) -> str:
        return self.point.path.name

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note)]

    @cached_property
    def rules(self) -> Rules:
        with self.target.connect() as live:
            return rules_for(live, self.whole.facts, self.wishes)

    @cached_property
    def rewritten(self) -> Rewritten:
        staging = {schema: names.staging(self.run, schema) for schema in self.schemas}
        whole, emit = self.whole, self.events.append
        with ExitStack() as removal:
            return rewrite(
                self.target, whole.summary, whole.facts, self.name, staging, self.rules, Context(emit), removal=removal
            )

    def find(self) -> tuple[Orphaned, ...]:
        with self.target.connect() as live:
            return deleted_parents.find(live, self.whole.source, self.whole.summary, self.rewritten, _never)

    def build(self, cancelled: Callable[[], bool] = lambda: False) -> Loaded:
        self.loaded = staged.build(
            self._dump,
            self.rewritten,
            Origin(self.run, str(self.point.path), "host", "user", {TRUSTED: "built as the operator"}),
            self.rules,
            Context(self.events.append, cancelled),
            connect=self._connect,
            watch=self.target.connect,
        )
        return self.loaded

    def prove(self) -> Proof:
        return prove.prove(
            self._dump,
            self.rewritten,
            self.run,
            self.target,
            Context(self.events.append),
            connect=self._connect,
            same=self.loaded.same,
            allow_orphans=self.wishes.allow_orphans,
        )

    @property
    def _dump(self) -> Dump:
        return Dump(self.name, self.whole.source, self.whole.summary, self.whole.facts, self._again)

    def _again(self) -> Facts:
        return points.read_whole(self.point).facts

    def _connect(self, purpose: str) -> AbstractContextManager[Connection]:
        return self.target.connect(application_name=f"lastgood {purpose}")

    def schema(self, live: str) -> str:
        return self.rewritten.schemas[live]


def point_in(path: Path) -> RestorePoint:
    """A dump that lastgood did not make."""
    return points.find(path.parent, path.name)


def _never() -> bool:
    return False
