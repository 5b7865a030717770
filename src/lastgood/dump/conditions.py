r"""psql's variables and ``\if``, as far as exports use them, to find the parts of a file that psql would skip."""

from __future__ import annotations

import re

from lastgood.dump.statements import PsqlCommand

_TRUE = frozenset({"true", "on", "yes", "1", "t", "y"})
_VARIABLE = re.compile(r":\{\?(\w+)\}|:'?\"?(\w+)'?\"?")


class Conditions:
    r"""Track psql's ``\if`` through the psql commands of a text. ``active``: psql would run the next command."""

    def __init__(self) -> None:
        self._variables: dict[str, str] = {}
        # For each open \if: whether its current branch is taken, and whether one was taken before.
        self._open: list[tuple[bool, bool]] = []

    @property
    def active(self) -> bool:
        return all(taken for taken, _ in self._open)

    def note(self, command: PsqlCommand) -> None:
        """Process the next psql command."""
        name, argument = command.name[1:], command.argument
        if name == "if":
            taken = self._holds(argument)
            self._open.append((taken, taken))
        elif self._open and name in ("elif", "else"):
            _, before = self._open.pop()
            taken = not before and (name == "else" or self._holds(argument))
            self._open.append((taken, before or taken))
        elif self._open and name == "endif":
            self._open.pop()
        elif name == "set" and self.active:
            variable, _, value = argument.partition(" ")
            self._variables[variable] = value.strip().strip("'")
        elif name == "unset" and self.active:
            self._variables.pop(argument, None)

    def _holds(self, expression: str) -> bool:
        found = _VARIABLE.fullmatch(expression.strip())
        if found is None:
            return expression.strip().strip("'").lower() in _TRUE
        asked, variable = found.groups()
        return asked in self._variables if asked else self._variables.get(variable, "").lower() in _TRUE
