"""The version of the server, and the requirements of the restore point."""

from __future__ import annotations

from collections.abc import Iterator

from lastgood.checklist import Finding, Passed
from lastgood.checks import needs
from lastgood.checks.needs import MissingObjects
from lastgood.checks.subject import Subject
from lastgood.load.repairs import Rules

SUPPORTED = range(15, 19)


def server(s: Subject) -> Iterator[Finding | Passed]:
    """The server's version, and whether this lastgood was tested with it."""
    major = s.maintenance.info.server_version // 10000
    if major not in SUPPORTED:
        yield Finding(
            level="caution",
            code="server_version",
            text=f"this lastgood was not tested with PostgreSQL {major} (only with 15 to 18)",
            known="measured",
        )
    else:
        version = s.maintenance.info.parameter_status("server_version")
        yield Passed(text=f"the server is PostgreSQL {version}", known="measured")


def point(s: Subject) -> Iterator[Finding | Passed]:
    """A newer server's dump may contain syntax that this server does not know."""
    major = s.maintenance.info.server_version // 10000
    dumped = s.facts.rules.server_major if s.facts is not None else None
    if dumped is not None and dumped > major:
        yield Finding(
            level="refusal",
            code="older_server",
            text=f"the restore point was dumped from PostgreSQL {dumped}; this server is {major} and may reject it",
            hint="Restore it on a server of that version: lastgood restore POINT --into NAME --db URL",
        )
    elif dumped is not None:
        yield Passed(text=f"the restore point was dumped from PostgreSQL {dumped}")
    if s.point is not None and s.summary is None:
        yield Finding(
            level="note",
            code="needs_unread",
            text="the roles and tablespaces that the restore point needs are unknown until it is read",
            hint="Read it now: lastgood check --thorough. The plan of a rollback always does.",
            known="unknown",
        )


def encoding(s: Subject) -> Iterator[Finding]:
    """Characters that the live database's encoding lacks."""
    if s.summary is not None and s.database.encoding not in (s.summary.encoding, "UTF8", "SQL_ASCII"):
        yield Finding(
            level="caution",
            code="encoding",
            text=f'the restore point is in {s.summary.encoding}, "{s.database.name}" in {s.database.encoding}: '
            "a character without an equivalent stops the run",
        )


def roles(s: Subject) -> Iterator[Finding]:
    """Roles, which are not part of a dump."""
    if s.summary is not None:
        rules = Rules(strict=s.request.strict)
        yield from _refused(needs.missing_roles(s.maintenance, s.summary, rules))


def extensions(s: Subject) -> Iterator[Finding]:
    """Extensions, whose files come with packages on the server's machine."""
    if s.facts is not None:
        yield from _refused(needs.missing_extensions(s.maintenance, s.facts))
        yield from _refused(needs.missing_languages(s.maintenance, s.facts))


def tablespaces(s: Subject) -> Iterator[Finding]:
    """Tablespaces, which belong to the server."""
    if s.summary is not None:
        yield from _refused(needs.missing_tablespaces(s.maintenance, s.summary))


def _refused(lack: MissingObjects | None) -> Iterator[Finding]:
    if lack is not None:
        yield Finding(level="refusal", code=f"missing_{lack.kind}", text=lack.text, hint=lack.hint, final=True)
