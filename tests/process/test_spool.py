"""An interrupt of the copy of standard input is seen, however soon the input ends after it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastgood.errors import Interrupted
from lastgood.events import Event, Progress
from lastgood.process.spool import spool_input


@pytest.fixture
def _not_ignored(number: signal.Signals) -> Iterator[None]:
    """Handle the signal as by default, also where the parent of the tests ignores it (nohup)."""
    before = signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    signal.signal(number, before)


@pytest.mark.usefixtures("_not_ignored")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_counts_although_the_input_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    for _ in range(50):
        reading, writing = os.pipe()
        os.write(writing, b"--\n")

        def interrupted_and_ended(event: Event, writing: int = writing) -> None:
            if isinstance(event, Progress):
                os.kill(os.getpid(), number)
                os.close(writing)

        with (
            pytest.raises(Interrupted, match="interrupted while standard input was read"),
            spool_input(reading, tmp_path, interrupted_and_ended, {"TMPDIR": str(tmp_path)}),
        ):
            pass
        os.close(reading)
        assert list(tmp_path.glob(".lastgood-*")) == []
