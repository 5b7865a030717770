"""The plan file of a salvage: the choice of rows as TOML."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lastgood.cli.combinations import ROWS
from lastgood.config.file import reason
from lastgood.errors import UsageError
from lastgood.models import Frozen
from lastgood.salvage.plan import Chosen, LeftColumn, LeftTable, SalvagePlan
from lastgood.salvage.policy import COLLISIONS, Policies, parse
from lastgood.salvage.references import NOT_CHOSEN
from lastgood.salvage.rows import RowKey
from lastgood.salvage.sides import Names
from lastgood.salvage.transaction import TableSummary


class PlanFile(Frozen):
    """A plan file. ``run``, ``source`` and ``base``: see ``Names``."""

    run: str | None = None
    source: str | None = None
    base: str | None = None
    chosen: Chosen = Chosen()


def read(path: Path) -> PlanFile:
    """Read a plan file. Raises UsageError."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        names = {key: found.pop(key) for key in ("run", "source", "base") if key in found}
        if found.get("tables") == []:
            raise UsageError(
                f'cannot use the plan file "{path}": "tables" names no table',
                hint='Name the tables whose rows are wanted, or remove "tables" to take all of them.',
            )
        for key in ("since", "until"):
            if isinstance(given := found.get(key), str):
                found[key] = moment(key, given)
        return PlanFile.model_validate({**names, "chosen": found})
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f'cannot read the plan file "{path}": {error}', hint="Write one: lastgood salvage plan"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f'cannot read the plan file "{path}": {error}', hint="Fix this line, or write a new one."
        ) from error
    except ValidationError as error:
        raise _wrong(path, error) from error


def _wrong(path: Path, error: ValidationError) -> UsageError:
    """The first error of a plan file, with the name that it has there."""
    first = error.errors(include_url=False, include_input=False)[0]
    parts = [part for part in first["loc"] if part != "chosen"]
    where, hint = ".".join(str(part) for part in parts), "To see a valid plan file: lastgood salvage plan"
    if first["type"] == "extra_forbidden":
        known = Policies.model_fields if parts[0] == "policies" else Chosen.model_fields
        near = difflib.get_close_matches(str(parts[-1]), known, n=1)
        why = f'unknown name "{where}"'
        hint = f'Did you mean "{near[0]}"? {hint}' if near else hint
    else:
        why = f"{where}: {reason(first['type'], first.get('ctx', {}), first['msg'])}"
    return UsageError(f'cannot use the plan file "{path}": {why}', hint=hint)


def text(plan: SalvagePlan, names: Names) -> str:
    """The plan file of a plan."""
    return "\n".join(_lines(plan, names)) + "\n"


def _lines(plan: SalvagePlan, names: Names) -> Iterator[str]:
    chosen = plan.chosen

    def wanted(table: TableSummary) -> bool:
        """Whether the choice takes the table. It may be listed only because chosen rows refer to it."""
        name = f"{table.schema_name}.{table.name}"
        return name in chosen.rows or set(table.left) != {NOT_CHOSEN} or any(each.action for each in table.sums)

    yield f'# Rows of {plan.theirs.kind} "{plan.theirs.name}", for the database "{plan.live}".'
    yield "# Edit this file, then run: lastgood salvage apply FILE"
    for key, value in (("run", plan.theirs.run or names.run), ("source", names.source), ("base", plan.base.path)):
        if value:
            yield f"{key} = {_quoted(value)}"
    yield ""
    yield "# The tables; remove a line to leave its table out."
    # An empty list would be refused: it is what is left when every line was removed.
    some = "" if chosen.tables or any(map(wanted, plan.tables)) else "# "
    yield f"{some}tables = ["
    if not any(map(wanted, plan.tables)):
        yield from (f"  {_quoted(each)}," for each in chosen.tables)
    for each in plan.tables:
        name = f"{each.schema_name}.{each.name}"
        counts = ", ".join(
            f"{rows:,} {action}" for action in ("insert", "update", "delete") if (rows := each.rows(action))
        )
        left = ", ".join(f"{rows:,} {why}" for why, rows in each.left.items())
        line = f"{_quoted(name)},  # {counts or 'nothing'}" + (f"; left out: {left}" if left else "")
        if name in {**chosen.rows, **chosen.without_rows}:
            line = f"{_quoted(name)},  # the rows below"
        yield f"  {'' if wanted(each) else '# '}{line}"
    yield f"{some}]"
    yield f"exclude = [{', '.join(_quoted(each) for each in chosen.exclude)}]"
    for key, stamp in (("since", chosen.since), ("until", chosen.until)):
        yield f"{key} = {_quoted(stamp)}" if stamp else f'# {key} = "2026-01-12T09:00:00Z"'
    for key, numbers in (
        ("transactions", chosen.transactions),
        ("without_transactions", chosen.without_transactions),
        ("by_transactions", chosen.by_transactions),
    ):
        yield f"{key} = [{', '.join(str(each) for each in numbers)}]"
    for key, texts in (
        ("by_users", chosen.by_users),
        ("columns", chosen.columns),
        ("renamed", chosen.renamed),
        ("merge_json", chosen.merge_json),
    ):
        yield f"{key} = [{', '.join(_quoted(each) for each in texts)}]"
    absent: list[LeftTable | LeftColumn] = [*plan.left_tables, *plan.left_columns]
    yield from (f"# If it was renamed, add: {_quoted(one.renamed)}" for one in absent if one.renamed)
    for key, flag in (
        ("deletes", chosen.deletes),
        ("migration", chosen.migration),
        ("with_parents", chosen.with_parents),
    ):
        yield f"{key} = {str(flag).lower()}"
    yield ""
    yield "[where]  # SQL conditions by table"
    yield from _mapping(chosen.where)
    for key, named, what in (
        ("rows", chosen.rows, "of these tables, only the rows with these keys"),
        ("without_rows", chosen.without_rows, "the rows with these keys are left out"),
    ):
        if named:
            yield ""
            yield f"[{key}]  # {what}"
            for name, keys in named.items():
                yield f"{_quoted(name)} = ["
                yield from (f"  {_key(each)}," for each in keys)
                yield "]"
    yield ""
    yield "[policies]"
    yield from _mapping({each: chosen.policies.of(each) for each in COLLISIONS})


def _mapping(found: Mapping[str, str]) -> Iterator[str]:
    return (f"{_quoted(key)} = {_quoted(value)}" for key, value in found.items())


def _key(key: RowKey) -> str:
    return _quoted(key[0]) if len(key) == 1 else f"[{', '.join(map(_quoted, key))}]"


def _quoted(value: str) -> str:
    # A basic string of TOML has the escapes of JSON.
    return json.dumps(value, ensure_ascii=False)


# The names in a plan file of options with another one.
_NAMES = {
    "table": "tables",
    "transaction": "transactions",
    "without_transaction": "without_transactions",
    "by_user": "by_users",
    "by_transaction": "by_transactions",
    "with_migration": "migration",
    "column": "columns",
}


def with_options(begun: Chosen, given: Mapping[str, Any]) -> Chosen:
    """The choice of a plan file, changed by the options that are ``given``. Raises UsageError."""
    changed: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for option, value in given.items()
        if value and (name := _NAMES.get(option, option)) in Chosen.model_fields
    }
    for key in {"since", "until"} & changed.keys():
        changed[key] = moment(f"--{key}", changed[key])
    if "where" in changed:
        changed["where"] = {**begun.where, **_conditions(changed["where"])}
    if on := given.get("on"):
        changed["policies"] = begun.policies.model_copy(update=parse(on).model_dump(exclude_unset=True))
    return begun.model_copy(update=changed)


def as_options(names: Names, chosen: Chosen, *, to_be_edited: bool) -> set[str]:
    """The options that make this choice, for ``combinations.refuse``."""
    found = {f"--{option.replace('_', '-')}" for option, name in _NAMES.items() if getattr(chosen, name)}
    found |= {f"--{name.replace('_', '-')}" for name in Chosen.model_fields if getattr(chosen, name)}
    found |= {f"--on {each}" for each in COLLISIONS if chosen.policies.of(each) != "skip"}
    sides = {"--run": names.run, "--from": names.source, "--base": names.base}
    found |= {option for option, name in sides.items() if name}
    return found | ({ROWS} if chosen.rows or to_be_edited else set())


def _conditions(given: Iterable[str]) -> dict[str, str]:
    """Conditions from ``TABLE:CONDITION``. Raises UsageError."""
    found = {}
    for each in given:
        table, colon, condition = each.partition(":")
        if not colon or not condition.strip():
            raise UsageError(
                f'cannot use --where "{each}": it names no table',
                hint="""Example: --where "contacts: owner = 'kim'".""",
            )
        found[table.strip()] = condition.strip()
    return found


def moment(option: str, given: str | None) -> str | None:
    """A time in ISO 8601, in UTC unless it has a zone. Raises UsageError."""
    if given is None:
        return None
    try:
        found = datetime.fromisoformat(given)
    except ValueError as error:
        raise UsageError(f'cannot use {option} "{given}": not a time', hint="Example: 2026-01-12T09:00:00Z") from error
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).isoformat()
