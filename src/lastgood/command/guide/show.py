"""The guide as a document: the prose around its blocks, with names from the database in it, and the page of it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from lastgood import __version__
from lastgood.command.guide import FILE, freshness
from lastgood.command.guide.guide import Subject, body
from lastgood.command.guide.parts import part
from lastgood.command.guide.report import GuideCheck, GuideReport
from lastgood.facts import TableFacts
from lastgood.journal.past_runs import DID
from lastgood.points import RestorePoint
from lastgood.screen import markdown, page
from lastgood.screen.screen import Screen
from lastgood.text import redact, units

SHOWN = 20
_ADDRESS = re.compile(r"(.*?)\s*(https?://\S+)")
_CARRIED = {
    True: "This restore point brings its own owners and grants: those of its own time. For one made with\n"
    "`--no-owner` or `--no-acl` they come from the live database (`CARRY=yes`).",
    False: "This restore point was made with `--no-owner` or `--no-acl`: what is restored belongs to the restoring\n"
    "role, the application is locked out, and what had been revoked from PUBLIC is open again. So owners, grants\n"
    "and default privileges are taken from the live database.",
}


def document(subject: Subject) -> str:
    """The whole guide, in Markdown."""
    return "\n".join([*_head(subject), body(subject, _prose(subject)).rstrip("\n"), "", *_foot(subject)]) + "\n"


def html(subject: Subject, text: str) -> str:
    """A guide's text as one page."""
    return page.page(f"Rollback by hand: {subject.live}", text)


def operations(subject: Subject, guide: Path, readme: Path) -> str:
    """The section on operations for a README: what to do when it burns, with a link to the guide."""
    address = quote(os.path.relpath(guide.resolve(), readme.resolve().parent).replace(os.sep, "/"))
    return "\n".join(
        [
            "## Operations: putting the database back",
            "",
            f"The database {markdown.code(subject.live)} is put back to its last good state with",
            "[lastgood](https://pypi.org/project/lastgood/):",
            "",
            "```text",
            "lastgood status              # in what state it is",
            "lastgood rollback --dry-run  # what would be done, and what would be lost",
            "lastgood rollback            # does it, after asking",
            "lastgood undo                # takes that back",
            "```",
            "",
            f"Without lastgood, with `psql` alone: [the manual rollback procedure]({address}), written on"
            f" {subject.made_at:%Y-%m-%d},",
            f"to be looked through by {subject.review:%Y-%m-%d}"
            + (f", kept by {markdown.text(subject.guide.owner)}" if subject.guide.owner else "")
            + f". [Quick reference]({address}#quick-reference)"
            + f" · [Scenarios]({address}#the-four-scenarios) · [Troubleshooting]({address}#troubleshooting).",
        ]
    )


def show(screen: Screen, report: GuideReport) -> None:
    """Says what was written."""
    screen.say(f'The guide is written: "{report.file}"')
    screen.pairs(
        [
            ("As a page", report.html or ""),
            ("README", report.readme or ""),
            ("Goes back to", f"{Path(report.point).name}, made {report.point_made_at:%Y-%m-%d %H:%M} UTC"),
            ("Review", f"by {report.review:%Y-%m-%d}"),
        ]
    )
    screen.say(f"Whether it is out of date, for cron or CI: lastgood guide --check{_named(report.file)}")


def show_check(screen: Screen, check: GuideCheck) -> None:
    """Says whether a guide is out of date, and why."""
    if check.current:
        screen.say(f'"{check.file}" is up to date.')
        return
    screen.say(f'"{check.file}" is out of date:')
    for reason in check.reasons:
        screen.say(reason, first="  - ", indent=4)
    screen.say(f"Write it anew: lastgood guide{_named(check.file)}")


def _named(file: str) -> str:
    """The option that names the file of a guide, where it needs one."""
    return "" if file == FILE else f" --output {shlex.quote(file)}"


def _head(subject: Subject) -> Iterator[str]:
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
                "Goes back to",
                f"{markdown.code(point.path.name)}, made {point.made_at:%Y-%m-%d %H:%M:%S} UTC"
                f" ({markdown.text(point.kind)}, {units.size(point.size)}; {markdown.text(point.facts.summary)})",
            ),
            (
                "Role",
                f"{markdown.code(subject.role)}, "
                + (
                    "a superuser"
                    if subject.superuser
                    else "no superuser: the block `rights` says whether that is enough"
                ),
            ),
            ("Written", f"{subject.made_at:%Y-%m-%d %H:%M} UTC by lastgood {__version__}"),
            ("Owner", markdown.text(subject.guide.owner) or "nobody: name one in `[guide]` of lastgood.toml"),
            ("Review by", f"{subject.review:%Y-%m-%d}"),
        ],
    )
    yield ""
    yield "For whoever has `psql`, `pg_dump` and `pg_restore`, the rights of an owner or superuser, and not lastgood."
    yield "Each block of commands can be pasted as it is: it runs as a whole and stops at its first error. Paste them"
    yield "into `sh`, `bash` or `dash`; `zsh` first needs `emulate sh`."
    yield ""


def _foot(subject: Subject) -> Iterator[str]:
    yield "## Related documents"
    yield ""
    if subject.guide.related:
        yield markdown.bullets(map(_related, subject.guide.related))
    else:
        yield "None are named in `[guide]` of lastgood.toml (`related`)."
    yield ""
    yield "## Version"
    yield ""
    owner = markdown.text(subject.guide.owner) or "not named"
    yield (
        f"Written by lastgood {__version__} on {subject.made_at:%Y-%m-%d}. Owner: {owner}. Review by "
        f"{subject.review:%Y-%m-%d}. Do not edit the blocks: `lastgood guide` writes them anew, and"
    )
    yield "`lastgood guide --check` says when it must."


def _lasted(subject: Subject) -> str:
    past = subject.past
    if past is None:
        return " (nobody knows: it was never rehearsed here; `lastgood drill` does)"
    return f" (on {past.at:%Y-%m-%d} it was {DID[past.kind]} in {units.duration(past.seconds)}, by lastgood)"


def _related(text: str) -> str:
    """A document: a link where the text ends with an address."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return markdown.text(text)
    address = quote(found[2], safe="/:?#[]@!$&'*+,;=%~-._")
    return f"[{markdown.text(found[1].rstrip(': ') or found[2])}](<{address}>)"


def _server(subject: Subject) -> str:
    keywords = subject.target.keywords
    where = keywords.get("host") or keywords.get("hostaddr")
    if "service" in keywords:
        return f"the service {markdown.code(keywords['service'])}"
    if not where:
        return "the server that libpq's own settings name"
    return markdown.code(where) + (f", port {markdown.text(keywords['port'])}" if "port" in keywords else "")


def _prose(subject: Subject) -> dict[str, str]:
    point = subject.point
    kept = markdown.code(f"{subject.live}_old_NUMBER") + " with the number of the attempt (`RUN`)"
    return {
        "title": markdown.code(subject.live),
        "room": units.size(subject.size) if subject.size is not None else "the live database's size",
        "store_text": markdown.code(str(subject.store)),
        "expected": _lasted(subject),
        "kept_text": kept,
        "restore_note": "" if point.single else _NOT_SINGLE,
        "grants_intro": _CARRIED[point.carries] + "\n" + _roles(subject),
        "expected_source": ", noted when it was made" if point.known else ", counted in the dump itself",
        "tables_text": _tables(point.facts.tables),
        "state_text": _state(subject),
        "health": f" Its health: `curl --fail` {markdown.code(redact.Scrubber()(subject.health))}."
        if subject.health
        else "",
        "points_note": f"; the newest {SHOWN} of {len(subject.points)}" if len(subject.points) > SHOWN else "",
        "points_table": _points(subject.points[:SHOWN]),
        "platform_text": "\n".join(_platform(subject)),
        "platform_differs": _differs(subject),
    }


_NOT_SINGLE = (
    "Not in one transaction here: large objects bring transactions of their own, and a thousand tables more locks\n"
    "than one may hold. When it fails, `walk-back` removes what is there."
)


def _roles(subject: Subject) -> str:
    if not subject.roles:
        return "No role but the owners was granted anything when this was written."
    named = [f"{markdown.code(name)} ({units.counted(count, 'table')})" for name, count in subject.roles]
    shown, more = ", ".join(named[:SHOWN]), f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return f"Roles that were granted something when this was written: {shown}{more}."


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
        said = f"{units.counted(len(rest), 'more table')}, in the block `expected`"
        rows.append((said, f"{sum(table.rows for table in rest):,}", ""))
    return markdown.table(("table", "rows", "newest time in it"), rows, right=(1,))


def _state(subject: Subject) -> str:
    state = subject.state
    names = sorted({f"{each.name} for {each.role}" if each.role else each.name for each in state.settings})
    said = [f"owner {markdown.code(state.owner)}"]
    said += [f"at most {state.connection_limit} connections"] if state.connection_limit >= 0 else []
    # Their names alone: applications keep secrets in them.
    said += [f"the settings {', '.join(map(markdown.code, names))}"] if names else []
    said += ["a comment"] if state.comment else []
    grantees = sorted({grant.grantee or "PUBLIC" for grant in state.acl if grant.grantee != state.owner})
    said += [f"grants to {', '.join(map(markdown.code, grantees))}"] if grantees else []
    return "; ".join(said) + "."


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


def _platform(subject: Subject) -> Iterator[str]:
    if subject.platform is None:
        yield "No platform was recognised: whoever runs the server may have backups of the whole machine."
        return
    yield f"{subject.platform.title} keeps {subject.platform.keeps}:"
    yield ""
    for say, run in subject.platform.steps:
        yield f"- {markdown.text(say)}" + (f" {markdown.code(run)}" if run else "")


def _differs(subject: Subject) -> str:
    if subject.platform is None:
        return "On a hosted server nobody is a superuser: the block `rights` says whether the switch can work there."
    return f"### On {subject.platform.title}\n\n{part(f'on_{subject.platform.name}.md').rstrip()}"
