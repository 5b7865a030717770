"""What is known of errors: one file each in ``cases``, read when the first one is asked for.

To teach a new error, add a file there; a test says what is missing in it. ``translations`` holds PostgreSQL's own words
for these messages in other languages; tests/command/explain/translations.py writes them.
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

# Less than that fits too much, where nothing else says that a line is an error.
TELLING = 12


class Case(Frozen):
    """One error, as a person needs it at night.

    ``sqlstates``: this case stands for these, whatever the message says; two characters are a whole class.
    ``sqlstates_with_text``: it may come with these, and the message decides. ``messages``: PostgreSQL's format strings.
    ``policy`` and ``context``: what a run of ours does about it, as postgres/errors.py has it. ``follows``: cases
    that it is a consequence of when they came before; ``*`` is any. ``minor``: nothing is lost by it. ``cause``,
    ``data`` (what it means for it) and ``lastgood`` (what we do about it) are sentences; ``commands`` what to run next.
    ``called``: what people call it when they have no message; ``examples`` are texts that tests must find it by.
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
    called: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    def may_have(self, sqlstate: str) -> bool:
        """Whether it may come with ``sqlstate``; one that a client program reports has none at all."""
        known = (*self.sqlstates, *self.sqlstates_with_text)
        return not known or sqlstate in known or sqlstate[:2] in known


class Library:
    """All cases. ``words`` are those for severities and their like in every language, by the English one."""

    def __init__(self, cases: tuple[Case, ...], translations: Mapping[str, Mapping[str, Mapping[str, str]]]) -> None:
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

    def by_text(self, message: str, sqlstate: str | None = None, *, telling: int = 1) -> Case | None:
        """The case whose message says most of what ``message`` says; only one that may have ``sqlstate``, and whose
        message has ``telling`` characters of its own."""
        # libpq: "connection to server at … failed: why"; where the why is known, it says more.
        _, failed, why = message.rpartition(" failed: ")
        texts = (message, why) if failed and why else (message,)
        for known in (self._english, self._ascii) if message.isascii() else (self._english, self._ascii, self._others):
            fitting = [
                (weight, each.slug)
                for text in texts
                for weight, each in known.fitting(text)
                if weight >= telling and (sqlstate is None or each.may_have(sqlstate))
            ]
            if fitting:
                return self.cases[max(fitting)[1]]
        return None

    def by_name(self, text: str) -> Case | None:
        """The case that people call so, in whatever order of words."""
        said = set(text.casefold().split())
        for each in self.cases.values():
            if any(said >= set(name.split()) for name in each.called):
                return each
        return None

    def by_state(self, sqlstate: str) -> Case | None:
        """The case that stands for a SQLSTATE, or for its class."""
        return self._by_state.get(sqlstate) or self._by_state.get(sqlstate[:2])

    def find(self, message: str, sqlstate: str | None) -> Case | None:
        """By the message first, since one SQLSTATE means many things; then by the SQLSTATE alone."""
        found = self.by_text(message, sqlstate) if message else None
        return found or (self.by_state(sqlstate) if sqlstate else None)


@cache
def library() -> Library:
    """The cases that lastgood comes with."""
    here = resources.files("lastgood.command.explain")
    cases = tuple(_cases(here.joinpath("cases").iterdir()))
    found = {
        name.removesuffix(".json"): json.loads(text)
        for name, text in _texts(here.joinpath("translations").iterdir(), ".json")
    }
    return Library(cases, found)


def _texts(files: Iterable[Traversable], suffix: str) -> Iterator[tuple[str, str]]:
    for file in sorted(files, key=lambda each: each.name):
        if file.name.endswith(suffix):
            yield file.name, file.read_text(encoding="utf-8")


def _cases(files: Iterable[Traversable]) -> Iterator[Case]:
    for name, text in _texts(files, ".toml"):
        yield Case.model_validate({"slug": name.removesuffix(".toml"), **tomllib.loads(text)})
