"""The list of all rules of a database, and the selection of rules."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial

import psycopg

from lastgood.command.validate import rows
from lastgood.command.validate.catalogue import Catalogue
from lastgood.command.validate.kinds import KINDS
from lastgood.command.validate.rule import Found, Mode, Rule, RuleTask, already
from lastgood.config import NOTHING_READ
from lastgood.errors import UsageError


def tasks(known: Catalogue, mode: Mode) -> list[RuleTask]:
    """Return the tasks for all rules. Objects that cannot be listed (a lock, a privilege) give a skipped rule."""
    found: list[RuleTask] = []
    for kind in KINDS:
        if mode in kind.modes and kind.finds is not None:
            found += _listed(known, kind.name, kind.title, partial(kind.finds, known, mode))
    sources = [kind.conditions for kind in KINDS if kind.conditions is not None and mode in kind.modes]
    found += _listed(known, "check", "checks", partial(rows.tasks, known, sources))
    for each in known.relations:
        if each.held:
            locked = Found(
                message=f"another session holds a lock on {each}: its checks, unique keys and sequences cannot be "
                "listed",
                hint="Find the session in pg_stat_activity, and try again when it has ended.",
                skipped="locked",
            )
            found.append(already(Rule(f"check:{each}", "check"), locked))
    for each in known.remote:
        remote = Found(message=f"parts of {each} are on another server, which is not queried", skipped="unavailable")
        found.append(already(Rule(f"required:{each}", "required"), remote))
    return found


def _listed(known: Catalogue, kind: str, title: str, finds: Callable[[], Iterator[RuleTask]]) -> list[RuleTask]:
    try:
        with known.connection.transaction(force_rollback=True):
            return list(finds())
    except (psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege) as error:
        locked = error.sqlstate == "55P03"
        found = Found(
            message=f"cannot list the {title}: {error.diag.message_primary}",
            hint="Try again when the other session has ended." if locked else "Try again as another role.",
            skipped="locked" if locked else "privilege",
        )
        return [already(Rule(kind, kind), found)]


def chosen(everything: Sequence[RuleTask], only: Sequence[str], ignored: Sequence[str]) -> list[RuleTask]:
    """Return the rules that ``only`` names (all if empty) without those in ``ignored``. Raises UsageError for an
    unknown name in ``only``."""
    kinds = [kind.name for kind in KINDS]
    for name in unknown(everything, only):
        if name not in kinds:
            near = difflib.get_close_matches(name, [*kinds, *(rule.name for rule in _rules(everything))], n=1)
            raise UsageError(
                f'cannot validate: there is no rule "{name}"',
                hint=f'Did you mean "{near[0]}"?' if near else f"The kinds of rules are: {', '.join(kinds)}.",
                state=NOTHING_READ,
            )

    def wanted(rule: Rule) -> bool:
        if any(_is_called(rule, name) for name in ignored):
            return False
        return not only or any(_is_called(rule, name) for name in only)

    found = list(_parts(everything, wanted))
    if only and not found:
        own = "Define them under [[validate.rules]] in lastgood.toml; lastgood config shows which file is used."
        raise UsageError(
            f"cannot validate: this database has no rule of kind {' or '.join(only)}"
            + (', or "ignore" disables it' if ignored else ""),
            hint=own if "own" in only else "Leave --only out to check all rules.",
            state=NOTHING_READ,
        )
    return found


def unknown(everything: Sequence[RuleTask], names: Sequence[str]) -> list[str]:
    """Return the names that match no rule."""
    rules = list(_rules(everything))
    return [name for name in names if not any(_is_called(rule, name) for rule in rules)]


def _rules(everything: Sequence[RuleTask]) -> Iterator[Rule]:
    return (rule for task in everything for rule in task.rules)


def _is_called(rule: Rule, name: str) -> bool:
    """Match a rule by name, kind or name pattern. Patterns do not match the user's own rules."""
    return name in (rule.name, rule.kind) or (rule.weight is None and fnmatchcase(rule.name, name))


def _parts(everything: Sequence[RuleTask], wanted: Callable[[Rule], bool]) -> Iterator[RuleTask]:
    """Yield the wanted tasks; a task for several rules is split if only some are wanted."""
    for task in everything:
        if all(wanted(rule) for rule in task.rules):
            yield task
        else:
            yield from _parts(task.alone, wanted)
