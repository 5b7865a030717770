"""One call of lastgood from its first moment: help and completion end before it has a session."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from lastgood.config.options import Value
from lastgood.process import interrupts

if TYPE_CHECKING:
    from lastgood.cli.session import Session


class Call:
    """The words of the command line, and what options they give. ``session`` is made when it is first asked for."""

    def __init__(self, words: Sequence[str], until_its_end: ExitStack) -> None:
        self.words = list(words)
        self.given: dict[str, Value] = {}
        self._until_its_end = until_its_end
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The session. From now on SIGTERM and SIGHUP end the command as Ctrl+C does, wherever it is: cleaned up, in a
        sentence, with status 130. Before that nothing is there to clean up (see ``__main__``)."""
        if self._session is None:
            # Here, because help and completion do without psycopg, pydantic and rich: most of the time of a start.
            from lastgood.cli.session import Session

            self._session = Session(self.words, given=self.given)
            self._until_its_end.enter_context(interrupts.raising())
        return self._session

    def over(self) -> None:
        """The command has ended: so has its session, if it has one."""
        if self._session is not None:
            self._session.over()
