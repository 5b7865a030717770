"""Options without effect are refused, each with its reason, before anything is read."""

from __future__ import annotations

import pytest

from lastgood.cli.application import app
from lastgood.cli.combinations import ROWS, RULES
from tests.cli.conftest import Lastgood
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import lastgood as lastgood

REFUSED = (
    ("diff a b --live", "combine B with --live: it compares A with the live database",
     "Leave out B, or leave out --live."),
    ("diff a --rows --level digest", "combine --rows with --level digest: it does not find single rows",
     "Leave out --level."),
    ("diff a --output x --level digest --format csv",
     "combine --output with --level digest: it does not find single rows", "Leave out --level."),
    ("diff a --output x", "use --output without --format csv or --format json or --format parquet: files have another "
     "format than text", "For example: --format csv --output folder"),
    ("diff a --format json", "use --format json without --output: it is the format of files",
     "For example: --format csv --output folder"),
    ("diff a --first 3", "use --first without --rows: it limits the rows that are shown",
     "Leave out --first, or add --rows."),
    ("points --compare digest", "use --compare without --loss: nothing is compared",
     "Leave out --compare, or add --loss."),
    ("points list --compare digest", "use --compare without --loss: nothing is compared",
     "Leave out --compare, or add --loss."),
    ("rollback --reconnect --by-name",
     "combine --reconnect with --by-name: an exchange of names terminates every session", "Leave out --reconnect."),
    ("rollback --in-place --fence now",
     "combine --fence now with --in-place: in place, writers continue until the switch", "Leave out --fence now."),
    ("rollback --in-place --reopen-when usable",
     "combine --reopen-when usable with --in-place: in place, nothing is deferred", "Leave out --reopen-when usable."),
    ("salvage apply --from x --transaction 7", "combine --transaction with --from: a restore point does not record "
     "which transaction wrote a row", "Leave out --transaction."),
    ("salvage plan --from x --column t.c", "combine --column with --from: a restore point does not record which "
     "transaction wrote a row", "Leave out --column."),
    ("salvage apply --with-migration --transaction 7",
     "combine --transaction with --with-migration: it takes every row and value of the migration",
     "Leave out --transaction."),
    ("salvage apply --with-migration --without-transaction 7",
     "combine --without-transaction with --with-migration: it takes every row and value of the migration",
     "Name the transactions whose rows are taken instead: --transaction NUMBER"),
    ("salvage --from x --base y --run z", "combine --run with --from and --base: these name both sides",
     "Leave out --run."),
    ("salvage apply --since 2026-01-01 --deletes",
     "combine --deletes with --since: a deleted row has no changed time stamp, so none is within a time span",
     "To choose deletions: --deletes with --where, and without --since"),
    ("salvage apply --on child_exists=fail",
     "use --on child_exists without --deletes or [rows] in a plan file: it concerns rows that are deleted, and none is",
     "Leave out --on child_exists, or add --deletes or [rows] in a plan file."),
)  # fmt: skip


@pytest.mark.parametrize(("line", "problem", "hint"), REFUSED, ids=[line for line, _, _ in REFUSED])
def test_an_option_without_effect_is_refused(lastgood: Lastgood, line: str, problem: str, hint: str) -> None:
    outcome = lastgood(*line.split())
    assert (outcome.status, outcome.err) == (
        2,
        f"error: cannot {problem}\nstate: Nothing was read or changed.\nnext:  {hint}\n",
    )


def test_every_rule_names_options_of_its_command() -> None:
    import typer

    root = typer.main.get_command(app)
    for words, rules in RULES.items():
        command = root
        for word in words.split():
            command = command.commands[word]  # type: ignore[attr-defined]  # a group
        commands = [command, *getattr(command, "commands", {}).values()]
        known = {
            name for each in commands for one in each.params for name in (*one.opts, *one.secondary_opts, one.metavar)
        }
        for rule in rules:
            for name in (rule.option, *rule.beside, *rule.without):
                assert name == ROWS or name.split()[0] in known or f"[{name}]" in known, (words, name)
