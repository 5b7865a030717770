"""The section on operations in a README: added or refreshed between its marks; no other byte is changed."""

from __future__ import annotations

from lastgood.errors import Refused

BEGIN = b"<!-- lastgood operations: begin -->"
END = b"<!-- lastgood operations: end -->"
UNCHANGED = "The file was not changed."


def with_section(readme: bytes, section: str, name: str) -> bytes:
    """``readme`` with ``section`` between its marks; where there are none, at its end.

    Lines end as they do in the file. ``name`` is what messages call it. Raises Refused when the marks are damaged, or
    it is no text.
    """
    if b"\0" in readme:
        raise Refused(
            f'cannot add a section to "{name}": it is no text in UTF-8 or the like',
            hint="Save it as UTF-8, and run the same command again.",
            state=UNCHANGED,
        )
    begins, ends = readme.count(BEGIN), readme.count(END)
    if (begins, ends) not in ((0, 0), (1, 1)) or readme.find(BEGIN) > readme.find(END):
        raise Refused(
            f'cannot refresh the section in "{name}": its marks are damaged ({_told(readme, begins, ends)})',
            hint=f'Each must stand there once, in this order: "{BEGIN.decode()}" and "{END.decode()}". Mend them, or '
            "remove both and all between them.",
            state=UNCHANGED,
        )
    newline = _newline(readme)
    marked = newline.join([BEGIN, section.encode().replace(b"\n", newline), END])
    if begins:
        return readme[: readme.index(BEGIN)] + marked + readme[readme.index(END) + len(END) :]
    gap = b"" if not readme or readme.endswith(newline * 2) else newline if readme.endswith(newline) else newline * 2
    return readme + gap + marked + newline


def _told(readme: bytes, begins: int, ends: int) -> str:
    if begins == ends == 1:
        return "the end stands before the beginning"
    return f"{begins} × begin, {ends} × end"


def _newline(readme: bytes) -> bytes:
    first = readme.find(b"\n")
    return b"\r\n" if first > 0 and readme[first - 1 : first] == b"\r" else b"\n"
