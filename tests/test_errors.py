"""An error claims only what was looked at."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

import lastgood
from lastgood import errors
from lastgood.command.prune.removal import already_removed
from lastgood.errors import NOT_REACHED, LastgoodError, Refused
from lastgood.plan import unfinished
from lastgood.postgres.mark import Mark
from lastgood.postgres.server import Connection, Target
from tests.cli.conftest import Lastgood
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import lastgood as lastgood_fixture  # noqa: F401 - a fixture of the tests of commands

SOURCES = Path(lastgood.__file__).parent
# Rooms that never ask a live database: no error of theirs may speak of one.
WITHOUT_SERVER = ("dump", "text", "config", "journal", "process", "facts/of_dump.py", "facts/compare", "cli", "screen")
CLAIMS = ("is open", "and open", "was not touched", "as it was")
NO_SERVER = "postgresql://postgres@127.0.0.1:9/crm?connect_timeout=1"


def classes(of: type[LastgoodError] = LastgoodError) -> Iterator[type[LastgoodError]]:
    yield of
    for each in of.__subclasses__():
        yield from classes(each)


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every error of ours that the sources make, and the module that does."""
    names = {each.__name__ for each in classes()}
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if name in names:
                    yield path.relative_to(SOURCES).as_posix(), node


def test_no_class_of_errors_claims_more_than_that_nothing_was_changed() -> None:
    assert {each.claim for each in classes()} == {"", NOT_REACHED}
    assert LastgoodError("cannot do it").state == ""
    assert Refused("cannot do it").state == NOT_REACHED


def test_what_never_asks_a_server_claims_nothing_of_a_database() -> None:
    every = list(calls())
    assert len(every) > 300  # the walk sees the raises
    for module, call in every:
        if module.startswith(WITHOUT_SERVER):
            states = [ast.unparse(each.value) for each in call.keywords if each.arg == "state"]
            assert not any(claim in state for state in states for claim in CLAIMS), (module, call.lineno)


def test_only_a_verified_state_claims_that_a_database_is_open() -> None:
    """``untouched`` and ``reporting_state`` take it from the caller: each of these has a session at hand."""
    callers = {
        path.relative_to(SOURCES).as_posix()
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "lastgood.errors"
        if {"untouched", "reporting_state"} & {each.name for each in node.names}
    }
    assert callers == {"plan/plan.py", "run/outcome.py", "run/prepare.py"}


@pytest.mark.parametrize(
    "words",
    [
        ["facts", "cut.sql"],
        ["facts", "--live"],
        ["points", "verify", "cut.sql"],
        ["restore", "cut.sql", "--into", "copy"],
        ["restore", "missing.sql", "--into", "copy"],
        ["guide", "--point", "cut.sql"],
        ["rollback", "cut.sql", "--yes"],
        ["rollback", "--dry-run"],
        ["resume", "--yes"],
        ["abort", "--yes"],
        ["undo", "--yes"],
        ["backup"],
        ["check"],
        ["status"],
        ["validate"],
        ["prune", "--yes"],
        ["drill", "--quiet", "--server", NO_SERVER],
        ["deploy", "--yes", "--", "true"],
        ["recover", "--yes"],
        ["maintenance", "on"],
        ["report"],
    ],
    ids=" ".join,
)
def test_a_command_that_reached_no_server_claims_no_state_of_a_database(
    lastgood_fixture: Lastgood,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    monkeypatch.setenv("LASTGOOD_DB", NO_SERVER)
    Path("cut.sql").write_text("--\n-- PostgreSQL database dump\n--\n\nCOPY public.a (id) FROM stdin;\n1\n")
    outcome = lastgood_fixture(*words)
    assert outcome.status not in (0, 1), outcome.err
    text = outcome.out + outcome.err
    assert not any(claim in text for claim in ("is open", "and open", "not touched")), text
    states = [line for line in outcome.err.splitlines() if line.startswith("state:")]
    assert len(states) <= 1


def test_the_state_is_that_of_who_knows_better() -> None:
    with pytest.raises(errors.Failed) as raised, errors.reporting_state("crm", is_open=True):
        raise errors.Failed("cannot do it", state='"crm" is the restored database.')
    assert raised.value.state == '"crm" is the restored database.'
    with pytest.raises(errors.Corrupt) as corrupt, errors.reporting_state("crm", is_open=True):
        raise errors.Corrupt("cannot read it")
    assert corrupt.value.state == '"crm" was not touched and is open.'
    with pytest.raises(errors.Corrupt) as closed, errors.reporting_state("crm", is_open=False):
        raise errors.Corrupt("cannot read it")
    assert closed.value.state == '"crm" was not touched.'


def test_the_state_after_the_switch_names_what_was_exchanged() -> None:
    by_name, in_place = (
        errors.restored("crm", "crm_old_1", in_place=False),
        errors.restored("crm", "k_*", in_place=True),
    )
    assert by_name == '"crm" is the restored database; the previous one is kept as "crm_old_1".'
    assert in_place == '"crm" has the restored objects; the previous ones are kept in the schemas "k_*".'
    assert (
        errors.restored("crm", in_place=False, detail=", in service") == '"crm" is the restored database, in service.'
    )


def test_an_error_of_prune_lists_what_was_removed_before_it() -> None:
    assert already_removed([], NOT_REACHED) == NOT_REACHED
    assert already_removed(["a.dump", "b"], NOT_REACHED) == 'Removed before the error: "a.dump", "b".'
    assert already_removed(["a.dump"], "Some tables were dropped.") == (
        'Removed before the error: "a.dump". Some tables were dropped.'
    )


def test_a_switched_run_of_which_nothing_is_kept_claims_no_kept_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "_kept", lambda *_: None)
    mark = Mark(
        role="shadow",
        run="r",
        live="crm",
        live_oid=1,
        point="a.dump",
        host="h",
        pid=1,
        user="u",
        started=datetime(2026, 11, 22, tzinfo=UTC),
    )
    switched = unfinished.Unfinished(mark, None, switched=True)
    with pytest.raises(Refused) as refused:
        unfinished.refuse_abort(switched, cast("Connection", None), Target({}))
    assert refused.value.state == '"crm" is the restored database.'
