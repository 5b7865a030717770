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
from lastgood.command.validate.rule import Mode, Rule, RuleFinding, RuleTask, finished_task
from lastgood.config import NOTHING_READ
from lastgood.errors import UsageError


def tasks(catalogue: Catalogue, mode: Mode) -> list[RuleTask]:
    """Return the tasks for all rules. Objects that cannot be listed (a lock, a privilege) give a skipped rule."""
    listed: list[RuleTask] = []
    for kind in KINDS:
        if mode in kind.modes and kind.finds is not None:
            listed += _listed(catalogue, kind.name, kind.title, partial(kind.finds, catalogue, mode))
    sources = [kind.conditions for kind in KINDS if kind.conditions is not None and mode in kind.modes]
    listed += _listed(catalogue, "check", "checks", partial(rows.tasks, catalogue, sources))
    for each in catalogue.relations:
        if each.locked:
            locked = RuleFinding(
                message=f"another session holds a lock on {each}: its checks, unique keys and sequences cannot be "
                "listed",
                hint="Find the session in pg_stat_activity, and try again when it has ended.",
                skipped="locked",
            )
            listed.append(finished_task(Rule(f"check:{each}", "check"), locked))
    for each in catalogue.remote:
        remote = RuleFinding(
            message=f"parts of {each} are on another server, which is not queried", skipped="unavailable"
        )
        listed.append(finished_task(Rule(f"required:{each}", "required"), remote))
    return listed


def _listed(catalogue: Catalogue, kind: str, title: str, finds: Callable[[], Iterator[RuleTask]]) -> list[RuleTask]:
    try:
        with catalogue.connection.transaction(force_rollback=True):
            return list(finds())
    except (psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege) as error:
        locked = error.sqlstate == "55P03"
        finding = RuleFinding(
            message=f"cannot list the {title}: {error.diag.message_primary}",
            hint="Try again when the other session has ended." if locked else "Try again as another role.",
            skipped="locked" if locked else "privilege",
        )
        return [finished_task(Rule(kind, kind), finding)]


def select(everything: Sequence[RuleTask], only: Sequence[str], ignored: Sequence[str]) -> list[RuleTask]:
    """Return the rules that ``only`` names (all if empty) without those in ``ignored``. Raises UsageError for an
    unknown name in ``only``."""
    kinds = [kind.name for kind in KINDS]
    for name in unknown_names(everything, only):
        if name not in kinds:
            near = difflib.get_close_matches(name, [*kinds, *(rule.name for rule in _rules(everything))], n=1)
            raise UsageError(
                f'cannot validate: there is no rule "{name}"',
                hint=f'Did you mean "{near[0]}"?' if near else f"The kinds of rules are: {', '.join(kinds)}.",
                state=NOTHING_READ,
            )

    def wanted(rule: Rule) -> bool:
        if any(_matches(rule, name) for name in ignored):
            return False
        return not only or any(_matches(rule, name) for name in only)

    selected = list(_parts(everything, wanted))
    if only and not selected:
        own = "Define them under [[validate.rules]] in lastgood.toml; lastgood config shows which file is used."
        raise UsageError(
            f"cannot validate: this database has no rule of kind {' or '.join(only)}"
            + (', or "ignore" disables it' if ignored else ""),
            hint=own if "own" in only else "Leave --only out to check all rules.",
            state=NOTHING_READ,
        )
    return selected


def unknown_names(everything: Sequence[RuleTask], names: Sequence[str]) -> list[str]:
    """Return the names that match no rule."""
    rules = list(_rules(everything))
    return [name for name in names if not any(_matches(rule, name) for rule in rules)]


def _rules(everything: Sequence[RuleTask]) -> Iterator[Rule]:
    return (rule for task in everything for rule in task.rules)


def _matches(rule: Rule, name: str) -> bool:
    """Match a rule by name, kind or name pattern. Patterns do not match the user's own rules."""
    return name in (rule.name, rule.kind) or (rule.weight is None and fnmatchcase(rule.name, name))


def _parts(everything: Sequence[RuleTask], wanted: Callable[[Rule], bool]) -> Iterator[RuleTask]:
    """Yield the wanted tasks; a task for several rules is split if only some are wanted."""
    for task in everything:
        if all(wanted(rule) for rule in task.rules):
            yield task
        else:
            yield from _parts(task.single_rule_tasks, wanted)
