"""The platform that hosts the server, and its own restore procedure: one small file per platform, in ``platforms``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from lastgood.command.recover.evidence import Platform

LOCAL = re.compile(r"localhost|127\.[0-9.]+|::1|")


@dataclass(frozen=True, slots=True)
class KnownPlatform:
    """A platform as its file describes it. ``hosts`` and ``users`` are patterns whose named groups fill the commands;
    ``roles`` exist only on its servers."""

    name: str
    title: str
    hosts: tuple[re.Pattern[str], ...]
    users: tuple[re.Pattern[str], ...]
    roles: frozenset[str]
    keeps: str
    steps: tuple[tuple[str, str], ...]


def known() -> tuple[KnownPlatform, ...]:
    """Return all platforms, ordered by name."""
    found = []
    for file in sorted(resources.files(__package__).joinpath("platforms").iterdir(), key=lambda each: each.name):
        if file.name.endswith(".toml"):
            found.append(_read(file.name.removesuffix(".toml"), tomllib.loads(file.read_text(encoding="utf-8"))))
    return tuple(found)


def _read(name: str, body: Mapping[str, Any]) -> KnownPlatform:
    return KnownPlatform(
        name=name,
        title=body["title"],
        hosts=tuple(re.compile(each) for each in body.get("hosts", ())),
        users=tuple(re.compile(each) for each in body.get("users", ())),
        roles=frozenset(body.get("roles", ())),
        keeps=body["keeps"],
        steps=tuple((step["say"], step.get("run", "")) for step in body["steps"]),
    )


def recognise(
    configured: str | None, keywords: Mapping[str, str], roles: Collection[str], moment: datetime | None
) -> Platform | None:
    """Recognise the platform by the configuration, else by the host name, else by its special roles; None for a
    self-hosted server. ``moment``: the target time of its steps."""
    host, user = keywords.get("host", ""), keywords.get("user", "")
    for each in known():
        matched = next((found for pattern in each.hosts if (found := pattern.search(host)) is not None), None)
        # A copy on a local machine has the platform's roles, but none of its backups.
        near = LOCAL.fullmatch(host) is not None or (host.startswith("/") and matched is None)
        role = next(iter(sorted(each.roles & set(roles))), "") if not near else ""
        if configured == each.name:
            why = "named in [recover]"
        elif configured is not None:
            continue
        elif matched is not None:
            why = f'by the host name "{host}"'
        elif role:
            why = f'by the role "{role}"'
        else:
            continue
        groups = matched.groupdict() if matched is not None else {}
        for pattern in each.users:
            groups |= found.groupdict() if (found := pattern.search(user)) is not None else {}
        time = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment is not None else "TIME"
        minute = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M+00") if moment is not None else "TIME"
        fill = {**{key: value for key, value in groups.items() if value}, "time": time, "minute": minute}
        steps = tuple((say, _filled(run, fill)) for say, run in each.steps)
        return Platform(each.name, each.title, why, each.keeps, steps)
    return None


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Replace ``{project}`` by its value, or by PROJECT if unknown."""
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[1].upper()), text)


def identifying_roles() -> list[str]:
    """Return all roles by which a platform is recognised."""
    return sorted({role for each in known() for role in each.roles})
