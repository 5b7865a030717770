"""Options that have no effect together, or without another one, by command.

An option that was given and ignored is worse than an error: the operator believes in its effect. Each rule is data, and
one function refuses what they name. A new pair is one line here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lastgood import config
from lastgood.errors import UsageError

if TYPE_CHECKING:
    import typer


@dataclass(frozen=True, slots=True)
class Pointless:
    """``option`` has no effect beside all of ``beside``, unless one of ``without`` is given; ``why`` is the reason. An
    option may be named with its value: ``--level digest``."""

    option: str
    why: str
    beside: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    hint: str = ""

    def applies(self, given: Collection[str]) -> bool:
        """Whether the options that are ``given`` include it in vain."""
        return self.option in given and all(each in given for each in self.beside) and not self._has_one(given)

    def _has_one(self, given: Collection[str]) -> bool:
        return any(each in given for each in self.without)

    def error(self) -> UsageError:
        """The refusal."""
        needed = " or ".join(self.without)
        if self.beside:
            what = f"cannot combine {self.option} with {' and '.join(self.beside)}: {self.why}"
        else:
            what = f"cannot use {self.option} without {needed}: {self.why}"
        add = f", or add {needed}" if needed else ""
        return UsageError(what, hint=self.hint or f"Leave out {self.option}{add}.", state=config.NOTHING_READ)


# Of a restore point with rows, no transaction of a row is known; with all rows of the migration, none is left out.
_NO_TRANSACTIONS = "a restore point does not record which transaction wrote a row"
_ALL_TAKEN = "it takes every row and value of the migration"
_FORMATS, _FILES = ("--format csv", "--format json", "--format parquet"), "For example: --format csv --output folder"
_BY_AUDIT = ("--by-user", "--by-transaction")
_DELETIONS_ONLY = "it concerns rows that are deleted, and none is"
# What no option does: rows that are named in a plan file.
ROWS = "[rows] in a plan file"

RULES: dict[str, tuple[Pointless, ...]] = {
    "diff": (
        Pointless("B", "it compares A with the live database", ("--live",), hint="Leave out B, or leave out --live."),
        Pointless("--output", "files have another format than text", without=_FORMATS, hint=_FILES),
        *(Pointless(each, "it is the format of files", without=("--output",), hint=_FILES) for each in _FORMATS),
        *(Pointless(each, "it does not find single rows", ("--level digest",), hint="Leave out --level.")
          for each in ("--rows", "--output")),
        Pointless("--first", "it limits the rows that are shown", without=("--rows",)),
    ),
    "points": (Pointless("--compare", "nothing is compared", without=("--loss",)),),
    "points list": (Pointless("--compare", "nothing is compared", without=("--loss",)),),
    "rollback": (
        Pointless("--reconnect", "an exchange of names terminates every session", ("--by-name",)),
        Pointless("--fence now", "in place, writers continue until the switch", ("--in-place",)),
        Pointless("--reopen-when usable", "in place, nothing is deferred", ("--in-place",)),
    ),
    "salvage": (
        *(Pointless(each, _NO_TRANSACTIONS, ("--from",))
          for each in ("--transaction", "--without-transaction", "--with-migration", "--column")),
        *(Pointless(each, _ALL_TAKEN, ("--with-migration",)) for each in ("--transaction", "--column")),
        Pointless("--without-transaction", _ALL_TAKEN, ("--with-migration",),
                  hint="Name the transactions whose rows are taken instead: --transaction NUMBER"),
        Pointless("--run", "these name both sides", ("--from", "--base")),
        *(Pointless("--deletes", "a deleted row has no changed time stamp, so none is within a time span", (each,),
                    _BY_AUDIT, hint=f"To choose deletions: --deletes with --where, and without {each}")
          for each in ("--since", "--until")),
        *(Pointless(f"--on {each}", _DELETIONS_ONLY, without=("--deletes", ROWS))
          for each in ("delete_origin_differs", "child_exists")),
    ),
}  # fmt: skip


def refuse(command: str, given: Collection[str]) -> None:
    """Raise UsageError for an option without effect. ``given``: the options, by themselves and with their values."""
    for each in RULES.get(command, ()):
        if each.applies(given):
            raise each.error()


def given_in(context: typer.Context) -> set[str]:
    """The options on the command line, by themselves and with their values, and the names of its arguments."""
    found = set()
    for each in context.command.params:
        source = context.get_parameter_source(each.name or "")
        if source is None or source.name != "COMMANDLINE":
            continue
        value = context.params.get(each.name or "")
        if each.param_type_name == "argument":
            found.add((each.metavar or each.name or "").strip("[]"))
        else:
            name = each.secondary_opts[0] if value is False and each.secondary_opts else each.opts[0]
            found |= {name, f"{name} {getattr(value, 'value', value)}"}
    return found
