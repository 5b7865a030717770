"""Confine each failure to read a restore point to that restore point: the others remain usable."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lastgood.errors import BadPoint, LastgoodError


class Unreadable(BadPoint):
    """Reading the restore point failed because of a defect in lastgood. Other restore points can still be read."""

    code = "unreadable_point"


@contextmanager
def contained(path: Path) -> Iterator[None]:
    """Turn every exception of the block into an error about the restore point at ``path``.

    Raises BadPoint for an OSError and Unreadable for a defect, with the place in lastgood's source where it occurred; a
    LastgoodError passes unchanged.
    """
    try:
        yield
    except LastgoodError:
        raise
    except OSError as error:
        raise BadPoint(
            f'cannot read "{path}": {(error.strerror or str(error)).lower()}',
            hint="Choose another restore point: lastgood points",
        ) from error
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise Unreadable(
            f'cannot read "{path}": a defect in lastgood ({type(error).__name__} in {Path(last.filename).name}, line '
            f"{last.lineno})",
            hint="Report it with this message, and choose another restore point: lastgood points",
        ) from error
