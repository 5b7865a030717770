"""What ``lastgood validate`` found, as its records tell."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from lastgood.journal import SENSELESS, Journal
from lastgood.journal.incidents import LOOKED_AT


@dataclass(frozen=True, slots=True)
class Validation:
    """One validation of a database as a whole."""

    at: datetime
    by: str
    verdict: str
    mode: str


def newest(state: Path, live: str, since: datetime) -> Validation | None:
    """The newest one of ``live`` after ``since``; one of a few rules only does not count."""
    for journal in islice(Journal.newest(state, "validate"), LOOKED_AT):
        with suppress(*SENSELESS), journal.path.open("rb") as file:
            found = json.loads(file.readline(1 << 16))
            at = datetime.fromisoformat(found["at"])
            if found["live"] == live and not found["only"] and at > since:
                return Validation(at, str(found["by"]), str(found["verdict"]), str(found["mode"]))
    return None
