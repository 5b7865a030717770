"""Connection strings as they are written in files and in URLs of other drivers, in the form that libpq reads."""

from __future__ import annotations

import re

# SQLAlchemy adds the driver: postgresql+asyncpg://. libpq reads the scheme in lower case only.
_SCHEME = re.compile(r"(postgres(?:ql)?)(?:\+\w+)?(?=://)", re.IGNORECASE)


def as_libpq(text: str) -> str:
    """``text`` without spaces, line ends and quotes around it; a URL also without the name of a driver in its scheme.

    Files with variables have these: CRLF line ends, and quotes where no shell removes them.
    """
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    scheme = _SCHEME.match(text)
    return scheme[1].lower() + text[scheme.end() :] if scheme is not None else text
