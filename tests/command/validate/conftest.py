"""A database made by a few statements, and what is found in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from lastgood.command.validate.validate import Mode, RuleResult, ValidationVerdict, validate
from lastgood.config.tables import Validate
from lastgood.context import Context
from lastgood.events import Emit, silent
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target


@dataclass(frozen=True)
class Stage:
    """An empty database and its validation."""

    server: EmbeddedServer
    name: str

    @property
    def target(self) -> Target:
        return self.server.target(self.name)

    def run(self, *statements: str, behind_its_back: bool = False) -> None:
        """Run statements; ``behind_its_back``: with triggers disabled, as in a load."""
        with self.target.connect() as connection:
            connection.execute("SET search_path = public")
            if behind_its_back:
                connection.execute("SET session_replication_role = replica")
            for statement in statements:
                connection.execute(statement.encode())

    def verdict(
        self,
        mode: Mode = "full",
        *only: str,
        user: str = "postgres",
        emit: Emit = silent,
        cancelled: Callable[[], bool] = lambda: False,
        time_limit: float | None = None,
        **settings: Any,
    ) -> ValidationVerdict:
        """What is found; ``settings`` are those of the table [validate]."""
        target = self.server.target(self.name, user=user)
        read = Validate.model_validate(settings)
        return validate(target, read, mode, Context(emit, cancelled), only=only, time_limit=time_limit)

    def found(self, *only: str, mode: Mode = "full", **settings: Any) -> dict[str, RuleResult]:
        """The rules that did not pass, by name."""
        found = self.verdict(mode, *only, **settings)
        return {each.name: each for each in found.rules if each.outcome != "PASS" and each.name != "index_content"}

    def rule(self, name: str, mode: Mode = "full", **settings: Any) -> RuleResult:
        """The result of one rule."""
        (found,) = self.verdict(mode, name, **settings).rules
        return found


@pytest.fixture
def stage(server: EmbeddedServer, new_database: Callable[..., str]) -> Stage:
    return Stage(server, new_database())
