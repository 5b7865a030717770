"""Prints the constraints that pin each dependency to its lower bound: ``python -m tools.lower_bounds``.

``make lower-bounds`` installs with them and runs the quick tests, so that a bound that is too low is found.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
_BOUNDED = re.compile(r"(?P<name>[\w.-]+)(?:\[(?P<extra>\w+)\])?>=(?P<version>[\w.]+)")


def constraints(dependencies: list[str]) -> list[str]:
    """Return one line a dependency; of an extra of psycopg one more, since it is a distribution of its own. Raises
    ValueError for a dependency without a lower bound."""
    lines = []
    for each in dependencies:
        bound = _BOUNDED.match(each)
        if bound is None:
            raise ValueError(f'dependency "{each}" has no lower bound')
        lines.append(f"{bound['name']}=={bound['version']}")
        if bound["name"] == "psycopg":
            lines.append(f"psycopg-{bound['extra']}=={bound['version']}")
    return lines


if __name__ == "__main__":
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    print("\n".join(constraints(project["dependencies"])))
