"""Immutable data for other parts of lastgood, the journal and programs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable data; an unknown field is an error."""

    # Built at the first use: a command imports many models and uses few.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Document(Frozen):
    """The output of a command with ``--json``, as docs/reference/json.md describes it."""

    format: Literal[1] = 1

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        return self.model_dump(mode="json", by_alias=True)
