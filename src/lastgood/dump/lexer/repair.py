"""Repair of damage that can be undone exactly in the stream: CR LF line ends, noise before the header.

Damage that could only be repaired by a guess is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from lastgood.errors import Corrupt

HEAD = 1 << 16
_HEADER = re.compile(rb"^--\r?\n-- PostgreSQL database (?:cluster )?dump\r?$", re.MULTILINE)
# A line that psql would read as SQL, a comment or one of its commands.
_SENSIBLE = re.compile(
    rb"\s*(?:--.*|/\*.*|\\[a-z]+ .*|(?:SET|SELECT|CREATE|DROP|ALTER|COMMENT|INSERT|COPY|BEGIN)\b.*)?\r?\Z"
)
_BOM = b"\xef\xbb\xbf"


def repaired(chunks: Iterable[bytes], notes: list[str], *, of_pg_dump: bool = False) -> Iterator[bytes]:
    """The same text with LF line ends and without text before its header; repairs are recorded in ``notes``.

    - When the first line ends with CR LF, every line must (a terminal between pg_dump and the file does that, or a
      transfer in text mode), and every CR LF becomes LF. Offsets are then those of the repaired text.
    - Lines before the header that are neither SQL nor comments (a script's banner) become blanks of equal length.

    ``of_pg_dump``: only repair a text with pg_dump's header; others may have both line ends, even in values.

    Raises Corrupt when a file mixes both line ends.
    """
    source = iter(chunks)
    head = b""
    for chunk in source:
        head += chunk
        if len(head) >= HEAD:
            break
    if of_pg_dump and _HEADER.search(head) is None:
        yield head
        yield from source
        return
    head = _without_noise(head, notes)
    line_end = head.find(b"\n")
    if line_end > 0 and head[line_end - 1 : line_end] == b"\r":
        notes.append("every line ends with CR LF, as after a transfer in text mode; the file is read with LF line ends")
        yield from _without_carriage_returns(head, source)
    else:
        yield head
        yield from source


def _without_noise(head: bytes, notes: list[str]) -> bytes:
    header = _HEADER.search(head)
    if header is None:
        return head
    before = head[: header.start()]
    lines = before.removeprefix(_BOM).split(b"\n")
    if all(_SENSIBLE.match(line) for line in lines):
        return head
    first = next(number for number, line in enumerate(lines, 1) if not _SENSIBLE.match(line))
    notes.append(f"line {first} and others before the header are not part of the dump and were skipped")
    return re.sub(rb"[^\n]", b" ", before) + head[header.start() :]


def _without_carriage_returns(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    line = 1
    held = b""
    chunk: bytes | None = head
    while chunk is not None:
        text = held + chunk
        # A CR at the end may be the first byte of a line end.
        held = b"\r" if text.endswith(b"\r") else b""
        text = text[: len(text) - len(held)]
        ends = text.count(b"\r\n")
        if ends != text.count(b"\n"):
            lone = re.search(rb"(?<!\r)\n", text)
            at = line + (text.count(b"\n", 0, lone.start()) if lone else 0)
            raise Corrupt(
                f"cannot read the dump: line {at} ends with LF, the lines before it with CR LF",
                hint="Transfer the file again in binary mode: the line ends of a part of it were changed.",
                line=at,
            )
        line += ends
        yield text.replace(b"\r\n", b"\n")
        chunk = next(rest, None)
    if held:
        yield held
