"""The context of work, and the report of its stages."""

from __future__ import annotations

import pytest

from lastgood.context import BACKGROUND, Context
from lastgood.errors import Interrupted
from lastgood.events import Event, StageDone, StageStarted, reported


def test_check_raises_once_the_work_is_cancelled() -> None:
    cancelled: list[bool] = []
    context = Context(cancelled=lambda: bool(cancelled))
    context.check("interrupted")
    BACKGROUND.check("interrupted")
    cancelled.append(True)
    with pytest.raises(Interrupted) as caught:
        context.check("interrupted: the clone was removed", state="Nothing was changed.")
    assert (str(caught.value), caught.value.state) == ("interrupted: the clone was removed", "Nothing was changed.")


def test_a_context_may_have_another_reason_to_stop() -> None:
    stopped: list[str] = []
    narrower = Context(cancelled=lambda: "all" in stopped).until(lambda: "this" in stopped)
    assert not narrower.cancelled()
    stopped[:] = ["this"]
    assert narrower.cancelled()
    stopped[:] = ["all"]
    assert narrower.cancelled()


def test_a_stage_is_reported_as_done_with_its_detail() -> None:
    events: list[Event] = []
    with reported(events.append, "facts", "read the database") as stage:
        assert events == [StageStarted("facts", "read the database")]
        stage.detail = "3 rows"
    assert events[1:] == [StageDone("facts", stage.seconds, "3 rows")]


def test_a_stage_that_fails_is_not_reported_as_done() -> None:
    events: list[Event] = []
    with pytest.raises(ValueError), reported(events.append, "facts", "read the database"):
        raise ValueError
    assert events == [StageStarted("facts", "read the database")]
