"""Somebody who has the text of a guide, psql, pg_dump, pg_restore and coreutils, and nothing else on his path."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from lastgood.command.guide.guide import BlockResult, GuideBlock, blocks, run, select
from lastgood.postgres.embedded import EmbeddedServer

CLIENTS = ("psql", "pg_dump", "pg_restore")
COREUTILS = (
    *("cat", "cut", "date", "df", "head", "ls", "mkdir", "od", "printf", "rm", "sha256sum", "sleep", "sort", "tail"),
    *("tee", "tr", "wc"),
)


class ByHand:
    """Runs blocks of a guide. ``more``: programs for a compressed dump (gzip)."""

    def __init__(self, guide: Path, server: EmbeddedServer, folder: Path, more: Sequence[str] = ()) -> None:
        self.blocks = blocks(guide.read_text(encoding="utf-8"))
        self.ran: list[BlockResult] = []
        self._path = folder / "programs"
        self._path.mkdir(exist_ok=True)
        self._folder = folder
        self.variables: dict[str, str] = {"GUIDE": str(guide)}
        found = {**{name: server.bin / name for name in CLIENTS}, **{name: _tool(name) for name in (*COREUTILS, *more)}}
        for name, program in found.items():
            place = self._path / name
            place.unlink(missing_ok=True)
            place.symlink_to(program)

    def tries(self, ids: Iterable[str]) -> list[BlockResult]:
        """Run the blocks with these names until one fails."""
        environment = {"PATH": str(self._path), "LC_ALL": "C.UTF-8", **self.variables}
        wanted = select(self.blocks, list(ids), hooks=True)
        ran = list(run(self.blocks, wanted, environment, folder=self._folder, seconds=120))
        self.ran += ran
        return ran

    def does(self, *ids: str) -> str:
        """Run the blocks with these names, which must exist and succeed; return their output."""
        assert [block.id for block in select(self.blocks, ids, hooks=True)] == list(ids)
        ran = self.tries(ids)
        failed = [each for each in ran if not each.succeeded]
        assert not failed, f"{failed[0].block.id} ended with {failed[0].status}: {failed[0].output}"
        return "\n".join(each.output for each in ran)

    def fails(self, id: str) -> str:
        """Run one block, which must fail; return its output."""
        (ran,) = self.tries([id])
        assert not ran.succeeded, ran.output
        return ran.output

    @property
    def untried(self) -> list[GuideBlock]:
        """The blocks that were not run yet, or only failed; those with names, which stand before each, left out."""
        well = {each.block.id for each in self.ran if each.succeeded}
        return [block for block in self.blocks if block.id not in well and block.id not in ("names", "quick")]


def _tool(name: str) -> Path:
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed"
    return Path(found)
