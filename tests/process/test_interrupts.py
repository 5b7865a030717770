"""Signals while something is at work."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from lastgood.process import interrupts
from tests.support.waiting import until


def test_each_signal_calls_the_next_one_and_then_it_is_enough() -> None:
    called: list[str] = []
    marked = threading.Event()

    def send(count: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        until(lambda: len(called) == count)

    with (
        pytest.raises(KeyboardInterrupt),
        interrupts.on_signal(
            lambda: called.append("first"),
            mark=marked.set,
            before=[lambda: called.append("before")],
            after=[lambda: called.append("after")],
        ),
    ):
        send(1)
        assert not marked.is_set()
        send(2)
        assert marked.is_set()
        send(3)
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(5)
    assert called == ["before", "first", "after"]


def test_the_second_signal_may_come_while_the_first_is_being_handled() -> None:
    for _ in range(300):
        with pytest.raises(KeyboardInterrupt), interrupts.on_signal(lambda: os.kill(os.getpid(), signal.SIGINT)):
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(5)
