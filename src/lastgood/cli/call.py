"""One call of lastgood. Help and completion end before a session is created."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from lastgood.config.options import Value
from lastgood.process import interrupts

if TYPE_CHECKING:
    from lastgood.cli.session import Session


class Call:
    """The command line and its options. ``session`` is created on first use."""

    def __init__(self, words: Sequence[str], until_its_end: ExitStack) -> None:
        self.words = list(words)
        self.given: dict[str, Value] = {}
        self._until_its_end = until_its_end
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The session. After its creation, SIGTERM and SIGHUP end the command like Ctrl+C: with a cleanup, a message
        and status 130. Before, there is nothing to clean up (see ``__main__``)."""
        if self._session is None:
            # Imported here, because help and completion need neither psycopg nor pydantic nor Rich, which are slow.
            from lastgood.cli.session import Session

            self._session = Session(self.words, given=self.given)
            self._until_its_end.enter_context(interrupts.raise_on_signal())
        return self._session

    def over(self) -> None:
        """End the session, if there is one."""
        if self._session is not None:
            self._session.over()
