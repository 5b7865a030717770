"""The dump arguments of commands: a restore point, several files of one dump, or standard input."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lastgood import config
from lastgood.errors import UsageError
from lastgood.events import Emit
from lastgood.process.spool import spool_input

STDIN = "-"
SHOWN = "standard input"
_PART = re.compile(r"(?:.*[_.-])?(roles|schema|data)\.sql(?:\.[a-z0-9]+)?")

DATABASE = "The database to take from a dump of a whole cluster (pg_dumpall)."


@contextmanager
def operands(names: Sequence[str], store: Path, emit: Emit) -> Iterator[list[str]]:
    """Provide the names, with "-" replaced by the path of a file that holds standard input."""
    if names.count(STDIN) > 1:
        raise UsageError("cannot read standard input twice", hint="Save the dump in a file.", state=config.NOTHING_READ)
    if STDIN not in names:
        yield list(names)
        return
    with spool_input(sys.stdin.fileno(), store, emit) as path:
        # A path, so that it is not taken for a name in the store.
        yield [str(path.absolute()) if name == STDIN else name for name in names]


def are_parts(names: Sequence[str]) -> bool:
    """Whether the names are files of one dump, not two dumps to compare."""
    found = [_PART.fullmatch(Path(name).name) for name in names]
    kinds = [each[1] for each in found if each is not None]
    return len(names) > 2 or (len(names) == len(kinds) == len(set(kinds)) == 2)
