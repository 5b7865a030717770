"""The section on operations in a README, added or updated between its markers. No other byte is changed."""

from __future__ import annotations

from lastgood.errors import Refused

BEGIN = b"<!-- lastgood operations: begin -->"
END = b"<!-- lastgood operations: end -->"
UNCHANGED = "The file was not changed."


def with_section(readme: bytes, section: str, name: str) -> bytes:
    """Return ``readme`` with ``section`` between its markers, or at the end if there are none.

    Keeps the line endings of the file. ``name``: the file name for messages. Raises Refused when the markers are
    damaged or the file is not text.
    """
    if b"\0" in readme:
        raise Refused(
            f'cannot add a section to "{name}": it is not a text file',
            hint="Save it as UTF-8, then run the command again.",
            state=UNCHANGED,
        )
    begins, ends = readme.count(BEGIN), readme.count(END)
    if (begins, ends) not in ((0, 0), (1, 1)) or readme.find(BEGIN) > readme.find(END):
        raise Refused(
            f'cannot update the section in "{name}": its markers are damaged ({_damage(readme, begins, ends)})',
            hint=f'Fix them so that each occurs once, "{BEGIN.decode()}" before "{END.decode()}", or remove both and '
            "everything between them.",
            state=UNCHANGED,
        )
    newline = _newline(readme)
    marked = newline.join([BEGIN, section.encode().replace(b"\n", newline), END])
    if begins:
        return readme[: readme.index(BEGIN)] + marked + readme[readme.index(END) + len(END) :]
    gap = b"" if not readme or readme.endswith(newline * 2) else newline if readme.endswith(newline) else newline * 2
    return readme + gap + marked + newline


def _damage(readme: bytes, begins: int, ends: int) -> str:
    if begins == ends == 1:
        return "end before begin"
    return f"{begins} × begin, {ends} × end"


def _newline(readme: bytes) -> bytes:
    first = readme.find(b"\n")
    return b"\r\n" if first > 0 and readme[first - 1 : first] == b"\r" else b"\n"
