"""Ties that the server cannot read again without running code.

To read a constant of a composite, array or range type, the server reads its parts, and runs the checks of domains among
them, with the rights of the session that creates the trigger or policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lastgood.dump.rulings.tree import parse, within
from lastgood.errors import Refused
from lastgood.in_place.ties import Policy, Ties, Trigger
from lastgood.postgres.roles.type_code import NamedType, running_code
from lastgood.postgres.server import Connection
from lastgood.text.redact import visible

HINT = "Roll back by name (--by-name). Or, if you trust the code: --trust-code REASON"


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A trigger or a policy, and the type whose constants run code."""

    tie: Trigger | Policy
    type: str

    def __str__(self) -> str:
        kind = "trigger" if isinstance(self.tie, Trigger) else "policy"
        return (
            f'{kind} "{self.tie.name}" on "{self.tie.schema_name}.{self.tie.table}" has a constant of type '
            f"{self.type}, and checks of that type would run with the rights of this role"
        )


def evaluated(connection: Connection, ties: Ties) -> list[Evaluated]:
    """The tied triggers and policies that run code when this session creates them. The types must exist under the names
    in the ties."""
    every_tie: list[Trigger | Policy] = [*ties.triggers, *ties.policies]
    named = {each: set(_types(each)) for each in every_tie if each.tied}
    every = sorted(set().union(*named.values()))
    if not every:
        return []
    rows = running_code(connection, every)
    found = []
    for tie, types in named.items():
        if reading := sorted(f"{schema}.{name}" for schema, name, _ in types.intersection(rows)):
            found.append(Evaluated(tie, reading[0]))
    return found


def refuse(connection: Connection, ties: Ties, doing: str) -> None:
    """Raise Refused if a tie runs code when this session creates it."""
    if found := evaluated(connection, ties):
        raise Refused(f"cannot {doing}: {visible(str(found[0]))}", hint=HINT)


def without_these(ties: Ties, found: Iterable[Evaluated]) -> Ties:
    """The ties without some triggers and policies."""
    left_out = {each.tie for each in found}
    return ties.model_copy(
        update={
            "triggers": tuple(each for each in ties.triggers if each not in left_out),
            "policies": tuple(each for each in ties.policies if each not in left_out),
        }
    )


def _types(tie: Trigger | Policy) -> Iterator[NamedType]:
    """The types of its constants, apart from the server's own; whether each is that of an array."""
    texts = (
        [tie.definition] if isinstance(tie, Trigger) else [f"SELECT {text}" for text in (tie.using, tie.check) if text]
    )
    for text in texts:
        for tag, fields in within(parse(text)):
            parts = fields.get("typeName", {}).get("names", []) if tag == "TypeCast" else []
            if len(parts) == 2:
                schema, name = (part.get("String", {}).get("sval", "") for part in parts)
                if schema != "pg_catalog":
                    yield schema, name, "arrayBounds" in fields["typeName"]
