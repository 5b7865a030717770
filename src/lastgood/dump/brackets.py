"""BEGIN and COMMIT in a dump: each command is committed by itself, except calls that write large objects."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lastgood.dump.statements import Command, LargeObjectCall

_ENDS = re.compile(rb"(?i)(?:commit|end)\b")


class Brackets:
    """``open``: whether a transaction of the file is open at the present command."""

    def __init__(self) -> None:
        self.open = False
        self._begun: Command | None = None
        self._kept = False

    def note(self, command: Command) -> Iterator[Command]:
        """Process a BEGIN or COMMIT; yield it if it must run now."""
        self.open = _ENDS.match(command.statement.text) is None
        self._begun = command if self.open else None
        if self._kept and not self.open:
            self._kept = False
            yield command

    def before(self, command: Command) -> Iterator[Command]:
        """The BEGIN that ``command`` needs before it, if any."""
        begun, self._begun = self._begun, None
        if begun is not None and isinstance(command.detail, LargeObjectCall):
            self._kept = True
            yield begun
