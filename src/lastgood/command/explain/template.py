"""PostgreSQL's format strings (``relation "%s" does not exist``) as patterns.

Known errors are recognised by them: a case has the original message, with its placeholders. They are also the keys of
PostgreSQL's translation catalogues, so translated messages need no patterns of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

_PLACE = re.compile(r"%(?:\d+\$)?[-+ #0]*\d*(?:\.\d+)?(?:ll|l|z)?[sduxXcim]")
_SHORTEST = 16
_WORD = re.compile(r"\w{4,}")
# A shell removes the quotes of names; chats and JSON documents replace them.
_QUOTE = r"""\\?["'“”]?"""


class Template:
    """One format string. ``weight``: the length of its fixed text in bytes (a Chinese character counts as three
    letters); of two matching patterns, the heavier one is chosen. ``word``: a word that every matching message
    contains, "" if there is none."""

    __slots__ = ("_longest", "_pieces", "text", "weight", "word")

    def __init__(self, text: str) -> None:
        self.text = _without_the_end(text).strip()
        pieces = _PLACE.split(self.text)
        self._pieces: tuple[re.Pattern[str], ...] | None = None  # compiled on first use, because there are thousands
        self._longest = max((part for piece in pieces for part in piece.split('"')), key=len)
        # A message that ends with a colon only introduces the cause.
        self.weight = 1 if text.endswith(": ") else sum(len(piece.encode()) for piece in pieces)
        self.word = max(_whole_words(pieces), key=len, default="")

    def matches(self, message: str) -> bool:
        """Whether the pattern matches anywhere in ``message``."""
        if self._longest not in message:
            return False
        if self._pieces is None:
            pieces = [re.escape(piece).replace('"', _QUOTE) for piece in _PLACE.split(self.text)]
            self._pieces = tuple(re.compile(piece) for piece in pieces)
        # Piece by piece: one pattern with gaps would take hours for the rows and the garbage in some logs.
        position = 0
        for piece in self._pieces:
            match = piece.search(message, position)
            if match is None:
                return False
            position = match.end()
        return True


def _without_the_end(text: str) -> str:
    """Remove a placeholder at the end, because reported errors often lack it, unless the rest is too short."""
    shorter = re.sub(r'(?::? "?%[sm]"?)+$', "", text)
    return shorter if len(shorter) >= _SHORTEST else text


def _whole_words(pieces: list[str]) -> Iterator[str]:
    """Yield the words that do not touch a placeholder, which could extend them."""
    for number, piece in enumerate(pieces):
        for word in _WORD.finditer(piece):
            touches = (word.start() == 0 and number > 0) or (word.end() == len(piece) and number < len(pieces) - 1)
            if not touches:
                yield word[0]


T = TypeVar("T")


class Templates(Generic[T]):
    """Patterns, each with a value, indexed by their words, because logs are long."""

    def __init__(self, pairs: Iterable[tuple[str, T]]) -> None:
        self._by_word: dict[str, list[tuple[Template, T]]] = {}
        for text, value in pairs:
            template = Template(text)
            self._by_word.setdefault(template.word, []).append((template, value))

    def matching(self, message: str) -> Iterator[tuple[int, T]]:
        """Yield the values of the matching patterns, with their weights."""
        for word in {"", *_WORD.findall(message)}:
            for template, value in self._by_word.get(word, ()):
                if template.matches(message):
                    yield template.weight, value
