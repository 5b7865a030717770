"""Who runs lastgood."""

from __future__ import annotations

import os
import pwd

import pytest

from lastgood.journal import caller


def test_the_user_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "anna")
    assert caller.user() == "anna"
    assert caller.host() == os.uname().nodename


def test_in_a_container_the_user_may_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    taken = {each.pw_uid for each in pwd.getpwall()}
    nobody = next(uid for uid in range(54321, 60000) if uid not in taken)
    monkeypatch.setattr(os, "getuid", lambda: nobody)
    assert caller.user() == f"uid {nobody}"
