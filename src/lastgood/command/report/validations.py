"""What ``lastgood validate`` found, as its records tell."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from lastgood.journal import SENSELESS, Journal
from lastgood.journal.incidents import LOOKED_AT
from lastgood.journal.reader import entries


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
        with suppress(*SENSELESS):
            found = next(entries(journal, "begun"), None)
            if found is not None and found.live == live and not found.fields["only"] and found.at > since:
                return Validation(found.at, found.by, found.text("verdict"), found.text("mode"))
    return None
