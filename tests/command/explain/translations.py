"""Takes PostgreSQL's own translations of the messages that cases are recognised by, from where Debian installs them:
``python -m tests.command.explain.translations``. Only what the cases need is kept, so a wheel carries it."""

from __future__ import annotations

import gettext
import json
import re
from pathlib import Path
from typing import Any

from lastgood.command.explain.case import library

CATALOGUES = Path("/usr/share/locale")
FOLDER = Path(__file__).parents[3] / "src" / "lastgood" / "command" / "explain" / "translations"
# The server's first: where client programs word the same message otherwise, its own counts.
_OF = ("postgres", "libpq5", "psql", "pg_dump")
_LOUD = ("ERROR", "FATAL", "PANIC", "WARNING", "NOTICE", "LOG")
_AFTER = ("DETAIL", "HINT", "CONTEXT", "STATEMENT", "QUERY", "LOCATION")


def languages(major: int = 15) -> list[str]:
    """Those that the server itself is translated into here."""
    return sorted(path.parts[-3] for path in CATALOGUES.glob(f"*/LC_MESSAGES/postgres-{major}.mo"))


def translation(language: str, major: int = 15) -> dict[str, dict[str, str]]:
    """What ``translations/<language>.json`` is to hold."""
    known = _catalogue(language, major)
    messages = {}
    for text in sorted({text for case in library().cases.values() for text in case.messages}):
        if (found := _translated(text, known)) is not None:
            messages[text] = found.partition("\n")[0]  # logs are read by lines
    words = {word: known[word] for word in _LOUD if word in known}
    words |= {word: known[f"{word}:  "].strip(": \xa0") for word in _AFTER if f"{word}:  " in known}
    words |= {word: known[f"{word}: "].strip(": \xa0") for word in ("error", "warning") if f"{word}: " in known}
    if "Command was: %s" in known:
        words["Command"] = known["Command was: %s"]
    return {"words": words, "messages": messages}


def _catalogue(language: str, major: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for program in _OF:
        file = CATALOGUES / language / "LC_MESSAGES" / f"{program}-{major}.mo"
        if file.exists():
            with file.open("rb") as stream:
                catalogue: dict[Any, str] = gettext.GNUTranslations(stream)._catalog  # type: ignore[attr-defined]  # plurals have no other way out
            for key, text in catalogue.items():
                if text:
                    found.setdefault(key if isinstance(key, str) else key[0], text)
    return found


def _translated(text: str, known: dict[str, str]) -> str | None:
    if text in known:
        return known[text]
    # The scanner's and the grammar's messages are put together from two.
    put_together = re.fullmatch(r'([a-z][^"]*) at or near "%s"', text)
    if put_together is not None and put_together[1] in known:
        return known['%s at or near "%s"'].replace("%1$s", "%s", 1).replace("%s", known[put_together[1]], 1)
    longer = next((each for each in known if each.startswith(text + "\n")), None)
    return known[longer].partition("\n")[0] if longer is not None else None


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in languages():
        body = json.dumps(translation(each), ensure_ascii=False, indent=0, sort_keys=True)
        (FOLDER / f"{each}.json").write_text(body + "\n", encoding="utf-8")
