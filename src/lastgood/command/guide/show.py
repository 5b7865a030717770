"""The guide as a document: the prose around its blocks, with names from the database, and its HTML page."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from lastgood import __version__
from lastgood.command.guide import FILE, freshness
from lastgood.command.guide.guide import GuideSubject, body
from lastgood.command.guide.parts import part
from lastgood.command.guide.subject import GuideCheck, GuideReport
from lastgood.facts import TableFacts
from lastgood.journal.past_runs import KIND_TITLES
from lastgood.points import RestorePoint
from lastgood.screen import markdown, page
from lastgood.screen.screen import Screen
from lastgood.text import redact, units

SHOWN = 20
_ADDRESS = re.compile(r"(.*?)\s*(https?://\S+)")
_CARRIED = {
    True: "This restore point contains its own owners and grants, as of its own time. For a restore point made with\n"
    "`--no-owner` or `--no-acl`, they are copied from the live database (`CARRY=yes`).",
    False: "This restore point was made with `--no-owner` or `--no-acl`. After the restore, the restoring role owns\n"
    "everything, the application has no access, and privileges revoked from PUBLIC are granted again. Therefore "
    "owners,\ngrants and default privileges are copied from the live database.",
}


def document(subject: GuideSubject) -> str:
    """Return the whole guide in Markdown."""
    return "\n".join([*_head(subject), body(subject, _prose(subject)).rstrip("\n"), "", *_foot(subject)]) + "\n"


def html(subject: GuideSubject, text: str) -> str:
    """Return a guide's text as an HTML page."""
    return page.page(f"Rollback by hand: {subject.live}", text)


def operations(subject: GuideSubject, guide: Path, readme: Path) -> str:
    """Return the section on operations for a README: what to do in an emergency, with a link to the guide."""
    scenarios = "other-restore-points" if subject.schemas else "the-four-scenarios"
    address = quote(os.path.relpath(guide.resolve(), readme.resolve().parent).replace(os.sep, "/"))
    return "\n".join(
        [
            "## Operations: rolling back the database",
            "",
            f"Database {markdown.code(subject.live)} is rolled back to its last good state with",
            "[lastgood](https://pypi.org/project/lastgood/):",
            "",
            "```text",
            "lastgood status              # show the state of the database",
            "lastgood rollback --dry-run  # show what would be done and lost",
            "lastgood rollback            # roll back, after confirmation",
            "lastgood undo                # undo the rollback",
            "```",
            "",
            f"Without lastgood, with `psql` alone: [the manual rollback procedure]({address}), written on"
            f" {subject.made_at:%Y-%m-%d},",
            f"review due by {subject.review:%Y-%m-%d}"
            + (f", owned by {markdown.text(subject.guide.owner)}" if subject.guide.owner else "")
            + f". [Quick reference]({address}#quick-reference)"
            + f" · [Scenarios]({address}#{scenarios}) · [Troubleshooting]({address}#troubleshooting).",
        ]
    )


def show(screen: Screen, report: GuideReport) -> None:
    """Print what was written."""
    screen.say(f'The guide is written: "{report.file}"')
    screen.pairs(
        [
            ("HTML page", report.html or ""),
            ("README", report.readme or ""),
            ("Restore point", f"{Path(report.point).name}, made {report.point_made_at:%Y-%m-%d %H:%M} UTC"),
            ("Review", f"by {report.review:%Y-%m-%d}"),
        ]
    )
    screen.say(f"To check from cron or CI whether it is current: lastgood guide --check{_file_option(report.file)}")


def show_check(screen: Screen, check: GuideCheck) -> None:
    """Print whether a guide is out of date, and why."""
    if check.current:
        screen.say(f'"{check.file}" is up to date.')
        return
    screen.say(f'"{check.file}" is out of date:')
    for reason in check.reasons:
        screen.say(reason, first="  - ", indent=4)
    screen.say(f"To update it: lastgood guide{_file_option(check.file)}")


def _file_option(file: str) -> str:
    """Return the option for the file of a guide, empty for the default."""
    return "" if file == FILE else f" --output {shlex.quote(file)}"


def _head(subject: GuideSubject) -> Iterator[str]:
    point = subject.point
    yield f"# Rollback by hand: {markdown.code(subject.live)}"
    yield ""
    yield freshness.line(subject)
    yield ""
    yield markdown.table(
        ("", ""),
        [
            ("Database", f"{markdown.code(subject.live)} on {_server(subject)}, PostgreSQL {subject.major}"),
            (
                "Restore point",
                f"{markdown.code(point.path.name)}, made {point.made_at:%Y-%m-%d %H:%M:%S} UTC"
                f" ({markdown.text(point.kind)}, {units.size(point.size)}; {markdown.text(point.facts.summary)})",
            ),
            (
                "Role",
                f"{markdown.code(subject.role)}, "
                + (
                    "a superuser"
                    if subject.superuser
                    else "not a superuser; the block `rights` checks whether that is sufficient"
                ),
            ),
            ("Written", f"{subject.made_at:%Y-%m-%d %H:%M} UTC by lastgood {__version__}"),
            ("Owner", markdown.text(subject.guide.owner) or "none; set one in `[guide]` of lastgood.toml"),
            ("Review by", f"{subject.review:%Y-%m-%d}"),
        ],
    )
    yield ""
    programs = "`psql`, `pg_dump`, `pg_restore`" + (", `awk`" if subject.schemas else "")
    yield f"This guide needs {programs} and the privileges of the owner or a superuser, but not lastgood."
    yield "Paste each block of commands as it is: it runs as a whole and stops at its first error. Use `sh`, `bash` or"
    yield "`dash`; in `zsh`, run `emulate sh` first."
    yield ""


def _foot(subject: GuideSubject) -> Iterator[str]:
    yield "## Related documents"
    yield ""
    if subject.guide.related:
        yield markdown.bullets(map(_related, subject.guide.related))
    else:
        yield "None. List them under `related` in `[guide]` of lastgood.toml."
    yield ""
    yield "## Version"
    yield ""
    owner = markdown.text(subject.guide.owner) or "not named"
    yield (
        f"Written by lastgood {__version__} on {subject.made_at:%Y-%m-%d}. Owner: {owner}. Review by "
        f"{subject.review:%Y-%m-%d}. Do not edit the blocks: `lastgood guide` updates them, and"
    )
    yield "`lastgood guide --check` reports when that is needed."


def _duration_note(subject: GuideSubject) -> str:
    past = subject.past
    if past is None:
        return " (no estimate: no rehearsal is recorded here; run `lastgood drill`)"
    return f" (on {past.at:%Y-%m-%d} it was {KIND_TITLES[past.kind]} by lastgood in {units.duration(past.seconds)})"


def _related(text: str) -> str:
    """Render a related document, as a link if the text ends with an address."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return markdown.text(text)
    address = quote(match[2], safe="/:?#[]@!$&'*+,;=%~-._")
    return f"[{markdown.text(match[1].rstrip(': ') or match[2])}](<{address}>)"


def _server(subject: GuideSubject) -> str:
    keywords = subject.target.keywords
    host = keywords.get("host") or keywords.get("hostaddr")
    if "service" in keywords:
        return f"the service {markdown.code(keywords['service'])}"
    if not host:
        return "the server from libpq's defaults"
    return markdown.code(host) + (f", port {markdown.text(keywords['port'])}" if "port" in keywords else "")


def _prose(subject: GuideSubject) -> dict[str, str]:
    point = subject.point
    name = "by_hand_kept_NUMBER" if subject.schemas else f"{subject.live}_old_NUMBER"
    kept = markdown.code(name) + " with the number of the attempt (`RUN`)"
    return {
        "title": markdown.code(subject.live),
        "room": units.size(subject.size) if subject.size is not None else "the size of the live database",
        "store_text": markdown.code(str(subject.store)),
        "expected": _duration_note(subject),
        "kept_text": kept,
        "restore_note": "" if point.single else _NOT_SINGLE,
        "grants_intro": _CARRIED[point.carries] + "\n" + _roles(subject),
        "expected_source": ", recorded when it was made" if point.known else ", counted in the dump itself",
        "tables_text": _tables(point.facts.tables),
        "state_text": _state(subject),
        "health": f" Health check: `curl --fail` {markdown.code(redact.Scrubber()(subject.health))}."
        if subject.health
        else "",
        "points_note": f"; the newest {SHOWN} of {len(subject.points)}" if len(subject.points) > SHOWN else "",
        "points_table": _points(subject.points[:SHOWN]),
        "why": markdown.text(subject.why),
        "schemas_text": ", ".join(map(markdown.code, subject.schemas)),
        "platform_text": "\n".join(_platform(subject)),
        "platform_differs": _differs(subject),
    }


_NOT_SINGLE = (
    "This restore does not run in one transaction: large objects use their own transactions, and a thousand tables "
    "need\nmore locks than one transaction can hold. If it fails, the block `remove` removes what was restored."
)


def _roles(subject: GuideSubject) -> str:
    if not subject.roles:
        return "When this guide was written, only the owners had privileges."
    named = [f"{markdown.code(name)} ({units.counted(count, 'table')})" for name, count in subject.roles]
    return f"Roles with privileges when this guide was written: {units.listed(named, SHOWN)}."


def _tables(tables: tuple[TableFacts, ...]) -> str:
    largest = sorted(tables, key=lambda table: (-table.rows, table.schema_name, table.name))
    rows = [
        (
            markdown.code(f"{table.schema_name}.{table.name}"),
            f"{table.rows:,}",
            markdown.text(max(table.newest.values(), default="")),
        )
        for table in largest[:SHOWN]
    ]
    rest = largest[SHOWN:]
    if rest:
        others = f"{units.counted(len(rest), 'more table')}, in the block `expected`"
        rows.append((others, f"{sum(table.rows for table in rest):,}", ""))
    return markdown.table(("table", "rows", "newest time stamp"), rows, right=(1,))


def _state(subject: GuideSubject) -> str:
    state = subject.state
    names = sorted({f"{each.name} for {each.role}" if each.role else each.name for each in state.settings})
    parts = [f"owner {markdown.code(state.owner)}"]
    parts += [f"at most {state.connection_limit} connections"] if state.connection_limit >= 0 else []
    # Only their names: applications keep secrets in the values.
    parts += [f"the settings {', '.join(map(markdown.code, names))}"] if names else []
    parts += ["a comment"] if state.comment else []
    grantees = sorted({grant.grantee or "PUBLIC" for grant in state.acl if grant.grantee != state.owner})
    parts += [f"grants to {', '.join(map(markdown.code, grantees))}"] if grantees else []
    return "; ".join(parts) + "."


def _points(points: tuple[RestorePoint, ...]) -> str:
    rows = []
    for each in points:
        known = each.manifest
        rows.append(
            (
                markdown.code(each.path.name),
                f"{each.made_at:%Y-%m-%d %H:%M:%S %Z}".strip(),
                units.size(each.size),
                f"{known.facts.rows:,}" if known is not None else "",
                markdown.text((known.migration or "") if known is not None else ""),
                markdown.text(each.problem),
            )
        )
    return markdown.table(("restore point", "made", "size", "rows", "migration", "damage"), rows, right=(2, 3))


def _platform(subject: GuideSubject) -> Iterator[str]:
    if subject.platform is None:
        yield "No platform was recognised. The operator of the server may have backups of the whole machine."
        return
    yield f"{subject.platform.title} keeps {subject.platform.keeps}:"
    yield ""
    for text, run in subject.platform.steps:
        yield f"- {markdown.text(text)}" + (f" {markdown.code(run)}" if run else "")


def _differs(subject: GuideSubject) -> str:
    if subject.platform is None:
        return (
            "Hosted services do not provide a superuser role. The block `rights` checks whether the switch is possible "
            "there."
        )
    return f"### On {subject.platform.title}\n\n{part(f'on_{subject.platform.name}.md').rstrip()}"
