"""What names a dump on the command line: a restore point, several files that are one, or standard input."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lastgood import config
from lastgood.errors import UsageError
from lastgood.events import Emit
from lastgood.process.spool import spooled

STDIN = "-"
SHOWN = "standard input"
_PART = re.compile(r"(?:.*[_.-])?(roles|schema|data)\.sql(?:\.[a-z0-9]+)?")

DATABASE = "The database to take from a dump of a whole cluster (pg_dumpall)."


@contextmanager
def operands(names: Sequence[str], store: Path, emit: Emit) -> Iterator[list[str]]:
    """The same names, with the path of a file that holds standard input where "-" stands."""
    if names.count(STDIN) > 1:
        raise UsageError(
            "cannot read standard input twice", hint="Store the dump in a file.", state=config.NOTHING_LOOKED_AT
        )
    if STDIN not in names:
        yield list(names)
        return
    with spooled(sys.stdin.fileno(), store, emit) as path:
        # A path, never the name of a point in the store.
        yield [str(path.absolute()) if name == STDIN else name for name in names]


def are_parts(names: Sequence[str]) -> bool:
    """Whether several names are those of the files that one dump was made in, and not two dumps to compare."""
    found = [_PART.fullmatch(Path(name).name) for name in names]
    kinds = [each[1] for each in found if each is not None]
    return len(names) > 2 or (len(names) == len(kinds) == len(set(kinds)) == 2)
