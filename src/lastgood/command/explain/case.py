"""The known errors: one file each in ``cases``, read on first use.

To add an error, add a file there; a test lists what it lacks. ``translations`` holds PostgreSQL's own translations of
these messages; tests/command/explain/translations.py writes them.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Literal

from pydantic import Field

from lastgood.command.explain.template import Templates
from lastgood.models import Frozen
from lastgood.postgres.errors import Context

# The minimum weight of a pattern for lines without a severity. Lighter patterns match too many lines.
DISTINCTIVE = 12


class KnownCase(Frozen):
    """One known error.

    ``sqlstates``: all errors with these belong to the case; two characters are a whole class. ``sqlstates_with_text``:
    possible SQLSTATEs, where the message decides. ``messages``: PostgreSQL's format strings. ``policy`` and
    ``context``: how a run of lastgood reacts, as in postgres/errors.py. ``follows``: earlier cases that cause this
    one; ``*`` is any. ``minor``: no data is lost. ``cause``, ``data`` (the effect on the data) and ``lastgood`` (how
    lastgood reacts) are sentences; ``commands`` are the next commands. ``names``: names that people use without a
    message; ``examples``: texts that tests recognise as this case.
    """

    slug: str
    title: str
    sqlstates: tuple[str, ...] = ()
    sqlstates_with_text: tuple[str, ...] = ()
    policy: Literal["ignore", "retry", "reconnect", "requeue", "repair", "stop"] | None = None
    context: Context = "any"
    messages: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    minor: bool = False
    cause: str = Field(min_length=20)
    data: str = Field(min_length=4)
    commands: tuple[str, ...] = ()
    lastgood: str = Field(min_length=20)
    names: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    def may_have(self, sqlstate: str) -> bool:
        """Whether the error may have ``sqlstate``. Errors of client programs have none."""
        states = (*self.sqlstates, *self.sqlstates_with_text)
        return not states or sqlstate in states or sqlstate[:2] in states


class Library:
    """All cases. ``words``: the translations of severities and labels, by the English word."""

    def __init__(
        self, cases: tuple[KnownCase, ...], translations: Mapping[str, Mapping[str, Mapping[str, str]]]
    ) -> None:
        self.cases = {each.slug: each for each in cases}
        self.languages = tuple(translations)
        self._english = Templates((text, each) for each in cases for text in each.messages)
        foreign = [
            (words, each)
            for language in translations.values()
            for each in cases
            for text in each.messages
            if (words := language["messages"].get(text))
        ]
        self._ascii = Templates((words, each) for words, each in foreign if words.isascii())
        self._others = Templates((words, each) for words, each in foreign if not words.isascii())
        self._by_state = {state: each for each in cases for state in each.sqlstates}
        self.words: dict[str, tuple[str, ...]] = {}
        for language in translations.values():
            for english, word in language["words"].items():
                self.words[english] = (*self.words.get(english, ()), word)

    def by_text(self, message: str, sqlstate: str | None = None, *, minimum: int = 1) -> KnownCase | None:
        """Return the case with the heaviest pattern that matches ``message`` and may have ``sqlstate``. ``minimum``:
        the minimum weight of the pattern."""
        # libpq: "connection to server at … failed: why". A known reason is more specific.
        _, failed, why = message.rpartition(" failed: ")
        texts = (message, why) if failed and why else (message,)
        for templates in (
            (self._english, self._ascii) if message.isascii() else (self._english, self._ascii, self._others)
        ):
            matching = [
                (weight, each.slug)
                for text in texts
                for weight, each in templates.matching(text)
                if weight >= minimum and (sqlstate is None or each.may_have(sqlstate))
            ]
            if matching:
                return self.cases[max(matching)[1]]
        return None

    def by_name(self, text: str) -> KnownCase | None:
        """Return the case with a name whose words are all in ``text``, in any order."""
        words = set(text.casefold().split())
        for each in self.cases.values():
            if any(words >= set(name.split()) for name in each.names):
                return each
        return None

    def by_state(self, sqlstate: str) -> KnownCase | None:
        """Return the case of a SQLSTATE, or of its class."""
        return self._by_state.get(sqlstate) or self._by_state.get(sqlstate[:2])

    def find(self, message: str, sqlstate: str | None) -> KnownCase | None:
        """Find a case by the message, because a SQLSTATE has several causes; otherwise by the SQLSTATE."""
        found = self.by_text(message, sqlstate) if message else None
        return found or (self.by_state(sqlstate) if sqlstate else None)


@cache
def library() -> Library:
    """Return the cases that are included in lastgood."""
    package = resources.files("lastgood.command.explain")
    cases = tuple(_cases(package.joinpath("cases").iterdir()))
    translations = {
        name.removesuffix(".json"): json.loads(text)
        for name, text in _texts(package.joinpath("translations").iterdir(), ".json")
    }
    return Library(cases, translations)


def _texts(files: Iterable[Traversable], suffix: str) -> Iterator[tuple[str, str]]:
    for file in sorted(files, key=lambda each: each.name):
        if file.name.endswith(suffix):
            yield file.name, file.read_text(encoding="utf-8")


def _cases(files: Iterable[Traversable]) -> Iterator[KnownCase]:
    for name, text in _texts(files, ".toml"):
        yield KnownCase.model_validate({"slug": name.removesuffix(".toml"), **tomllib.loads(text)})
