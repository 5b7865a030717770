"""PostgreSQL's own format strings (``relation "%s" does not exist``) as patterns.

Cases are recognised by them: whoever adds one copies the message, with %s for what changes. Being the keys of
PostgreSQL's catalogues of translations too, they are found in other languages without a pattern for each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

_PLACE = re.compile(r"%(?:\d+\$)?[-+ #0]*\d*(?:\.\d+)?(?:ll|l|z)?[sduxXcim]")
_TELLING = 16
_WORD = re.compile(r"\w{4,}")
# Names lose their quotes on the way through a shell, and get others in a chat or a JSON document.
_QUOTE = r"""\\?["'“”]?"""


class Template:
    """One format string. ``weight`` is how much it says itself (in bytes: a Chinese character says as much as three
    letters): of two that fit, the heavier counts. ``word`` is one that no message can lack which it fits; "" where
    there is none."""

    __slots__ = ("_longest", "_pieces", "text", "weight", "word")

    def __init__(self, text: str) -> None:
        self.text = _without_the_end(text).strip()
        pieces = _PLACE.split(self.text)
        self._pieces: tuple[re.Pattern[str], ...] | None = None  # thousands of them: made when its words were seen
        self._longest = max((part for piece in pieces for part in piece.split('"')), key=len)
        # One that ends with a colon only introduces what matters.
        self.weight = 1 if text.endswith(": ") else sum(len(piece.encode()) for piece in pieces)
        self.word = max(_whole_words(pieces), key=len, default="")

    def fits(self, message: str) -> bool:
        """Whether it stands anywhere in ``message``."""
        if self._longest not in message:
            return False
        if self._pieces is None:
            pieces = [re.escape(piece).replace('"', _QUOTE) for piece in _PLACE.split(self.text)]
            self._pieces = tuple(re.compile(piece) for piece in pieces)
        # One after the other: as one pattern with gaps it would take hours for the rows and the garbage in some logs.
        at = 0
        for piece in self._pieces:
            found = piece.search(message, at)
            if found is None:
                return False
            at = found.end()
        return True


def _without_the_end(text: str) -> str:
    """A name at the end is often missing where people tell of an error; what is left must still tell something."""
    shorter = re.sub(r'(?::? "?%[sm]"?)+$', "", text)
    return shorter if len(shorter) >= _TELLING else text


def _whole_words(pieces: list[str]) -> Iterator[str]:
    """Words that nothing in a message can make longer: not those that touch a placeholder."""
    for number, piece in enumerate(pieces):
        for word in _WORD.finditer(piece):
            touches = (word.start() == 0 and number > 0) or (word.end() == len(piece) and number < len(pieces) - 1)
            if not touches:
                yield word[0]


T = TypeVar("T")


class Templates(Generic[T]):
    """Many of them, each standing for something; found by their words, because logs are long."""

    def __init__(self, each: Iterable[tuple[str, T]]) -> None:
        self._by_word: dict[str, list[tuple[Template, T]]] = {}
        for text, thing in each:
            template = Template(text)
            self._by_word.setdefault(template.word, []).append((template, thing))

    def fitting(self, message: str) -> Iterator[tuple[int, T]]:
        """What fits, with its weight."""
        for word in {"", *_WORD.findall(message)}:
            for template, thing in self._by_word.get(word, ()):
                if template.fits(message):
                    yield template.weight, thing
