"""A restore point that lacks the rows of a table goes back only where the loss is accepted, with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.support.same_database import dump

REFUSAL = "the restore point has no rows for {}: it cannot replace a whole database"


@pytest.mark.postgres(15, 18)
def test_it_is_refused_and_an_override_goes_back(
    server: EmbeddedServer, database: str, lastgood: Lastgood, store: Path
) -> None:
    path = dump(server, database, store / "part.sql", "--exclude-table-data=public.deals")
    base = ("--store", str(store))
    for options in (("--dry-run",), ("--yes",)):
        refused = lastgood(*base, "rollback", path.name, *options, "--json")
        assert refused.status == 3, refused.out
    plan = lastgood(*base, "rollback", path.name, "--dry-run", "--json")
    (finding,) = [each for each in plan.document["findings"] if each["level"] == "refusal"]
    assert (finding["code"], finding["text"], finding["hint"]) == (
        "partial_point",
        REFUSAL.format("public.deals"),
        "Choose a complete one: lastgood points. Or accept the loss: --override restore_point --reason TEXT",
    )
    accepted = ("--override", "restore_point", "--reason", "deals come again at night")
    done = lastgood(*base, "rollback", path.name, "--yes", *accepted, "--json")
    assert done.status == 0, done.out
    with server.target(database).connect() as connection:
        assert connection.execute("SELECT count(*) FROM public.contacts").fetchone() == (3,)
        assert connection.execute("SELECT count(*) FROM public.deals").fetchone() == (0,)


def test_no_override_accepts_rows_that_refer_to_those_left_out(
    server: EmbeddedServer, database: str, lastgood: Lastgood, store: Path
) -> None:
    path = dump(server, database, store / "part.sql", "--exclude-table-data=public.contacts")
    accepted = ("--override", "restore_point", "--reason", "contacts come again at night")
    refused = lastgood("--store", str(store), "rollback", path.name, "--yes", *accepted, "--json")
    assert refused.status == 3
    plan = lastgood("--store", str(store), "rollback", path.name, "--dry-run", *accepted, "--json")
    (finding,) = [each for each in plan.document["findings"] if each["level"] == "refusal"]
    assert (finding["text"], finding["hint"]) == (
        f"{REFUSAL.format('public.contacts')}; 2 rows of public.deals refer to public.contacts",
        "Choose a complete one: lastgood points",
    )
    with server.target(database).connect() as connection:
        assert connection.execute("SELECT count(*) FROM public.contacts").fetchone() == (3,)
