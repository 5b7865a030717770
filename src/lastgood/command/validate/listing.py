"""All rules of one database, and those of them that are wanted."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial

import psycopg

from lastgood.command.validate import rows
from lastgood.command.validate.catalogue import Catalogue
from lastgood.command.validate.kinds import KINDS
from lastgood.command.validate.rule import Found, Mode, Rule, Task, already
from lastgood.config import NOTHING_LOOKED_AT
from lastgood.errors import UsageError


def tasks(known: Catalogue, mode: Mode) -> list[Task]:
    """The tasks for all rules. What can't be listed (a lock, a privilege) is a rule that was not looked at."""
    found: list[Task] = []
    for kind in KINDS:
        if mode in kind.modes and kind.finds is not None:
            found += _listed(known, kind.name, kind.title, partial(kind.finds, known, mode))
    sources = [kind.conditions for kind in KINDS if kind.conditions is not None and mode in kind.modes]
    found += _listed(known, "check", "checks", partial(rows.tasks, known, sources))
    for each in known.relations:
        if each.held:
            locked = Found(
                said=f"another session holds a lock on {each}: its checks, unique keys and sequences can't be listed",
                hint="Try again when it is done: pg_stat_activity shows who it is.",
                skipped="locked",
            )
            found.append(already(Rule(f"check:{each}", "check"), locked))
    for each in known.remote:
        remote = Found(said=f"parts of {each} lie on another server, which is not asked", skipped="unavailable")
        found.append(already(Rule(f"required:{each}", "required"), remote))
    return found


def _listed(known: Catalogue, kind: str, title: str, finds: Callable[[], Iterator[Task]]) -> list[Task]:
    try:
        with known.connection.transaction(force_rollback=True):
            return list(finds())
    except (psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege) as error:
        locked = error.sqlstate == "55P03"
        found = Found(
            said=f"the {title} can't be listed: {error.diag.message_primary}",
            hint="Try again when the other session is done." if locked else "Try again as another role.",
            skipped="locked" if locked else "privilege",
        )
        return [already(Rule(kind, kind), found)]


def chosen(everything: Sequence[Task], only: Sequence[str], ignored: Sequence[str]) -> list[Task]:
    """Those that ``only`` names (all when it is empty) without those in ``ignored``. Raises UsageError for a name in
    ``only`` that no rule has."""
    kinds = [kind.name for kind in KINDS]
    for name in unknown(everything, only):
        if name not in kinds:
            near = difflib.get_close_matches(name, [*kinds, *(rule.name for rule in _rules(everything))], n=1)
            raise UsageError(
                f'cannot validate: no rule is called "{name}"',
                hint=f'Did you mean "{near[0]}"?' if near else f"The kinds of rules are: {', '.join(kinds)}.",
                state=NOTHING_LOOKED_AT,
            )

    def wanted(rule: Rule) -> bool:
        if any(_is_called(rule, name) for name in ignored):
            return False
        return not only or any(_is_called(rule, name) for name in only)

    found = list(_parts(everything, wanted))
    if only and not found:
        own = "They stand under [[validate.rules]] in lastgood.toml; lastgood config shows which file is read."
        raise UsageError(
            f"cannot validate: this database has no rule of the kind {' or '.join(only)}"
            + (', or "ignore" switches it off' if ignored else ""),
            hint=own if "own" in only else "Without --only, all that it has are looked at.",
            state=NOTHING_LOOKED_AT,
        )
    return found


def unknown(everything: Sequence[Task], names: Sequence[str]) -> list[str]:
    """The names that no rule has."""
    rules = list(_rules(everything))
    return [name for name in names if not any(_is_called(rule, name) for rule in rules)]


def _rules(everything: Sequence[Task]) -> Iterator[Rule]:
    return (rule for task in everything for rule in task.rules)


def _is_called(rule: Rule, name: str) -> bool:
    """By its name, its kind, or a pattern of names; the names of the user's own rules are no patterns."""
    return name in (rule.name, rule.kind) or (rule.weight is None and fnmatchcase(rule.name, name))


def _parts(everything: Sequence[Task], wanted: Callable[[Rule], bool]) -> Iterator[Task]:
    """Of tasks for several rules, only what is wanted of them."""
    for task in everything:
        if all(wanted(rule) for rule in task.rules):
            yield task
        else:
            yield from _parts(task.alone, wanted)
