"""Each construct of a restore point that runs code, in each command that restores: no attack succeeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.conftest import CONSTRUCTS, Construct, Field
from tests.support import forked_cli

EACH = pytest.mark.parametrize("construct", CONSTRUCTS, ids=lambda each: each.name)
ENDS = pytest.mark.postgres(15, 18)


def lastgood(field: Field, store: Path, *arguments: str):  # type: ignore[no-untyped-def]
    common = ("--db", field.server.url(field.live), "--store", str(store), "--state", str(store / "state"))
    return forked_cli.run(*common, *arguments)


@ENDS
@EACH
def test_restore(field: Field, store: Path, construct: Construct) -> None:
    if not field.can_run(construct):
        return
    field.dump(construct, store)
    into = f"{field.live}_new"
    done = lastgood(field, store, "restore", "hostile.sql", "--into", into)
    import os
    if os.environ.get("SHOW"):
        open(os.environ["SHOW"],"a").write(f"== {construct.name}: {done.returncode}\n" + done.stdout[-1500:] + done.stderr[-1500:])
    assert field.successes(into, field.live) == [], done.stdout + done.stderr
