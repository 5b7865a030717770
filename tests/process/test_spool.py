"""An interrupt of the copy of standard input is seen, however soon the input ends after it."""

import os
import signal
from pathlib import Path

import pytest

from lastgood.errors import Interrupted
from lastgood.events import Event, Progress
from lastgood.process.spool import spooled


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
            spooled(reading, tmp_path, interrupted_and_ended, {"TMPDIR": str(tmp_path)}),
        ):
            pass
        os.close(reading)
        assert list(tmp_path.glob(".lastgood-*")) == []
