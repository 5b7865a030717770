"""What psql prints of commands that failed. Without ON_ERROR_STOP it goes on after each of them and ends with status 0,
and a migration that is half done looks like one that is done."""

from __future__ import annotations

import re
from functools import cache

from lastgood.command.explain.case import library
from lastgood.text.units import counted

KEPT = 5
LONGEST = 300
_SEVERE = ("ERROR", "FATAL", "PANIC")
# Of older translations, and of those that cover too little to be among ours.
_MORE = ("CHYBA", "BŁĄD", "ERRO", "HATA", "ΣΦΑΛΜΑ", "錯誤", "エラー", "EROARE", "LỖI")


class Complaints:
    """The errors in a program's output, in every language that PostgreSQL speaks: as libpq writes the server's, with
    two spaces behind the colon, and as psql writes its own."""

    def __init__(self) -> None:
        self.first: list[str] = []
        self.count = 0

    def hear(self, line: str) -> None:
        """One line of the output."""
        if _line().match(line):
            self.count += 1
            if len(self.first) < KEPT:
                self.first.append(line.strip()[:LONGEST])

    @property
    def said(self) -> str:
        """The first of them, and how many there are; empty where there are none."""
        if not self.count:
            return ""
        return f"{counted(self.count, 'command')} of it failed: {self.first[0]}"


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
        re.IGNORECASE if False else 0,
    )
