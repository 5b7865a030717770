"""The blocks of a guide: extracted from its text, and run as if pasted into a terminal."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lastgood.process import run as child

NAMES = "names"
QUICK = "quick"
# The blocks of a manual rollback, in order. Hooks stop and start the real application: see ``chosen``.
ROLLBACK = (
    "start",
    "point",
    "room",
    "rights",
    "holders",
    "backup",
    "hook-stop",
    "sessions",
    "create",
    "state",
    "restore",
    "grants",
    "expected",
    "compare",
    "loss",
    "files",
    "swap",
    "verify",
    "reads",
    "hook-start",
    "watch",
)
UNDO = ("undo",)
# The blocks where schemas are exchanged inside a database that cannot be renamed.
IN_PLACE = (
    "start",
    "point",
    "room",
    "rights",
    "backup",
    "hook-stop",
    "sessions",
    "expected",
    "loss",
    "extract",
    "switch",
    "verify",
    "reads",
    "hook-start",
    "watch",
)
HOOKS = frozenset({"hook-stop", "hook-start"})

_FENCE = re.compile(r"^(`{3,})(\w*)[^\n]*\n(.*?)^\1[ ]*$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^##+ (.+)$", re.MULTILINE)
_FIRST = re.compile(r"# \[([\w-]+)\] (.+)\n")


@dataclass(frozen=True, slots=True)
class GuideBlock:
    """Commands that belong together. ``section``: the heading above them. ``title``: their purpose."""

    id: str
    section: str
    title: str
    text: str

    @property
    def hook(self) -> bool:
        """Whether it stops or starts the real application."""
        return self.id in HOOKS


@dataclass(frozen=True, slots=True)
class BlockResult:
    """The result of a block. ``status`` is None after a timeout. ``output`` is the end of its output."""

    block: GuideBlock
    status: int | None
    output: str
    seconds: float

    @property
    def succeeded(self) -> bool:
        """Whether every command succeeded."""
        return self.status == 0


def blocks(guide: str) -> list[GuideBlock]:
    """Return the executable blocks of a guide, in the order of its text. Blocks of ``text`` are not executable."""
    headings = [(found.start(), found[1]) for found in _HEADING.finditer(guide)]
    result = []
    for fence in _FENCE.finditer(guide):
        first = _FIRST.match(fence[3])
        if fence[2] == "sh" and first is not None:
            section = next((title for place, title in reversed(headings) if place < fence.start()), "")
            result.append(GuideBlock(first[1], section, first[2], fence[3]))
    return result


def select(candidates: Iterable[GuideBlock], ids: Sequence[str], *, hooks: bool = False) -> list[GuideBlock]:
    """Return the blocks with these names, in that order. Existing hook blocks are included only with ``hooks``."""
    by_id = {block.id: block for block in candidates}
    return [by_id[each] for each in ids if each in by_id and (hooks or not by_id[each].hook)]


def run(
    all_blocks: Sequence[GuideBlock],
    selected: Iterable[GuideBlock],
    environment: Mapping[str, str],
    *,
    folder: Path | None = None,
    seconds: float = 3600.0,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[BlockResult]:
    """Run the ``selected`` blocks one after another, each in its own shell, and yield each result. Stop after a
    failure. ``all_blocks``: the whole guide, because its block of names precedes each block.

    ``environment`` is added to that of this process (``PATH``, ``PGPASSWORD``). psql, pg_dump, pg_restore and the usual
    small programs (``cat``, ``head``, ``sha256sum``) must be on its PATH. Raises OSError when there is no shell.
    """
    texts = {each.id: each.text for each in all_blocks if each.id in (NAMES, QUICK)}
    with tempfile.TemporaryDirectory(prefix="lastgood-guide-") as place:
        for block in selected:
            preceding = [NAMES] if block.id != NAMES else []
            preceding += [QUICK] if block.id.startswith(QUICK + "-") else []
            script = Path(place) / f"{block.id}.sh"
            script.write_text("\n".join([*(texts[name] for name in preceding), block.text]), encoding="utf-8")
            began = time.monotonic()
            ended = child.run_foreign(
                ["/bin/sh", "-e", str(script)],
                environment=environment,
                seconds=seconds,
                folder=folder,
                cancelled=cancelled,
            )
            spent = time.monotonic() - began
            result = BlockResult(block, ended.status if ended else None, ended.output if ended else "", spent)
            yield result
            if not result.succeeded:
                return
