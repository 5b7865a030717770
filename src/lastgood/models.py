"""What is handed from one part to another, to the journal and to programs: data that nobody changes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Data that stays as it was made; a field that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(Frozen):
    """What a command prints with ``--json``, as docs/reference/json.md describes it."""

    format: Literal[1] = 1

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        return self.model_dump(mode="json", by_alias=True)
