"""Error messages in the output of psql. Without ON_ERROR_STOP it continues after an error and exits with status 0, so
that a partial migration looks like a complete one."""

from __future__ import annotations

import re
from functools import cache

from lastgood.command.explain.case import library
from lastgood.text.units import counted

KEPT = 5
LONGEST = 300
_SEVERE = ("ERROR", "FATAL", "PANIC")
# From older translations, and from those too incomplete to be among ours.
_MORE = ("CHYBA", "BŁĄD", "ERRO", "HATA", "ΣΦΑΛΜΑ", "錯誤", "エラー", "EROARE", "LỖI")


class Complaints:
    """The errors in a program's output, in every language of PostgreSQL: server errors as libpq prints them, with two
    spaces after the colon, and psql's own errors."""

    def __init__(self) -> None:
        # Built before the program starts: the thread that reads its output has no time for that.
        self._pattern = _line()
        self.first: list[str] = []
        self.count = 0

    def read(self, line: str) -> None:
        """Read one line of the output."""
        if self._pattern.match(line):
            self.count += 1
            if len(self.first) < KEPT:
                self.first.append(line.strip()[:LONGEST])

    @property
    def summary(self) -> str:
        """The number of errors and the first one; empty if there are none."""
        if not self.count:
            return ""
        return f"{counted(self.count, 'command')} failed: {self.first[0]}"


@cache
def _line() -> re.Pattern[str]:
    words = library().words
    servers = sorted({word for each in _SEVERE for word in (each, *words.get(each, ()), *_MORE)}, key=len, reverse=True)
    own = sorted(
        {word for each in ("error", "fatal") for word in (each, *words.get(each, ()))}
        | {word.casefold() for word in _MORE},
        key=len,
        reverse=True,
    )
    escape = r"(?:\x1b\[[0-9;]*m)*"
    return re.compile(
        rf"{escape}(?:psql:.*?:\d+: ?)?{escape}(?:{'|'.join(map(re.escape, servers))})[ \xa0]?:  \S"
        rf"|{escape}psql:(?:.*?:\d+:)? ?{escape}(?:{'|'.join(map(re.escape, own))})[ \xa0]?: ?\S"
        r"|(?:psql:.*?:\d+: ?)?invalid command \\",
    )
