"""The guide in a README: updates between its markers, and detection of an outdated guide.

A guide contains a hidden line that records what it was written from. No byte outside the markers is changed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from lastgood.command.guide import parts
from lastgood.command.guide.blocks import blocks
from lastgood.command.guide.subject import GuideSubject
from lastgood.command.guide.writing import body, privileges
from lastgood.errors import Refused
from lastgood.models import Frozen

_LINE = re.compile(r'^\[//\]: # "lastgood guide ([A-Za-z0-9+/=]+)"$', re.MULTILINE)


class Stamp(Frozen):
    """The sources of a guide. The texts of 16 digits are digests; ``commands`` covers all blocks, so that manual
    edits are detected."""

    format: int = 1
    database: str
    server: str
    major: int
    point: str
    point_made_at: AwareDatetime
    tables: int
    tables_digest: str
    grants: str
    settings: str
    hooks: str
    texts: str
    commands: str
    review: AwareDatetime
    schemas: tuple[str, ...] = ()


def stamp(subject: GuideSubject) -> Stamp:
    """Build the stamp of a guide for this subject."""
    keywords = subject.target.keywords
    return Stamp(
        database=subject.live,
        server=" ".join(f"{key}={keywords[key]}" for key in ("service", "host", "port", "user") if key in keywords),
        major=subject.major,
        point=str(subject.point.path),
        point_made_at=subject.point.made_at,
        tables=len(subject.tables),
        tables_digest=subject.tables_digest,
        grants=_digest(privileges(subject.privileges)),
        settings=_digest(
            repr((subject.state.owner, sorted(subject.state.acl), subject.state.connection_limit))
            + repr([(each.role, each.name) for each in subject.state.settings])
        ),
        hooks=_digest(subject.hooks.model_dump_json()),
        texts=_texts(),
        commands=_commands(body(subject, {})),
        review=subject.review,
        schemas=subject.schemas,
    )


def line(subject: GuideSubject) -> str:
    """Return the hidden line: the nearest thing to a comment in Markdown."""
    text = base64.b64encode(stamp(subject).model_dump_json().encode()).decode()
    return f'[//]: # "lastgood guide {text}"'


def read(guide: str) -> Stamp | None:
    """Read the stamp in a guide; None if it is missing or malformed."""
    match = _LINE.search(guide)
    try:
        return Stamp.model_validate_json(base64.b64decode(match[1], validate=True)) if match is not None else None
    except (binascii.Error, ValidationError):
        return None


def outdated_reasons(guide: str, subject: GuideSubject) -> Iterator[str]:
    """Yield the reasons why a guide is out of date, without full stops; none if it is current."""
    recorded, current = read(guide), stamp(subject)
    if recorded is None:
        yield "it was not written by lastgood, or the line that records its origin is missing"
        return
    if (recorded.database, recorded.server) != (current.database, current.server):
        server = recorded.server or "server from libpq defaults"
        yield f'it describes another database, "{recorded.database}" ({server})'
        return
    if recorded.major != current.major:
        yield f"it is for PostgreSQL {recorded.major}, but the server is version {current.major}"
    if recorded.point != current.point or recorded.point_made_at != current.point_made_at:
        yield (
            f'it uses restore point "{Path(recorded.point).name}" ({_minute(recorded.point_made_at)}); the newest '
            f'restore point is "{Path(current.point).name}" ({_minute(current.point_made_at)})'
        )
    if recorded.tables_digest != current.tables_digest:
        yield f"the tables of the database changed ({recorded.tables} then, {current.tables} now)"
    if recorded.schemas != current.schemas:
        listed = f"then: {_list(recorded.schemas)}; now: {_list(current.schemas)}"
        yield f"the schemas that are rolled back in place changed ({listed})"
    if recorded.grants != current.grants:
        yield "owners, grants or their objects changed"
    if recorded.settings != current.settings:
        yield "owner, grants, connection limit or settings of the database changed"
    if recorded.hooks != current.hooks:
        yield "the commands that stop and start the application (lastgood.toml, [hooks]) changed"
    if recorded.texts != current.texts:
        yield "it was written by another version of lastgood, with other commands"
    if recorded.commands != _commands(guide):
        yield "its commands were edited by hand"
    if subject.made_at >= recorded.review:
        yield f"its review was due on {recorded.review:%Y-%m-%d}"


def _list(schemas: tuple[str, ...]) -> str:
    return ", ".join(schemas) or "none"


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _commands(guide: str) -> str:
    return _digest("\n".join(f"{block.id}\n{block.text}" for block in blocks(guide)))


@cache
def _texts() -> str:
    folder = resources.files(parts.__name__)
    names = sorted(each.name for each in folder.iterdir() if each.name.endswith((".awk", ".md", ".sh", ".sql")))
    return _digest("\0".join(map(parts.part, names)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


BEGIN = b"<!-- lastgood operations: begin -->"
END = b"<!-- lastgood operations: end -->"
UNCHANGED = "The file was not changed."


def with_section(readme: bytes, section: str, name: str) -> bytes:
    """Return ``readme`` with ``section`` between its markers, or at the end if there are none.

    Keeps the line endings of the file. ``name``: the file name for messages. Raises Refused when the markers are
    damaged or the file is not text.
    """
    if b"\0" in readme:
        raise Refused(
            f'cannot add a section to "{name}": it is not a text file',
            hint="Save it as UTF-8, then run the command again.",
            state=UNCHANGED,
        )
    begins, ends = readme.count(BEGIN), readme.count(END)
    if (begins, ends) not in ((0, 0), (1, 1)) or readme.find(BEGIN) > readme.find(END):
        raise Refused(
            f'cannot update the section in "{name}": its markers are damaged ({_damage(begins, ends)})',
            hint=f'Fix them so that each occurs once, "{BEGIN.decode()}" before "{END.decode()}", or remove both and '
            "everything between them.",
            state=UNCHANGED,
        )
    newline = _newline(readme)
    marked = newline.join([BEGIN, section.encode().replace(b"\n", newline), END])
    if begins:
        return readme[: readme.index(BEGIN)] + marked + readme[readme.index(END) + len(END) :]
    gap = b"" if not readme or readme.endswith(newline * 2) else newline if readme.endswith(newline) else newline * 2
    return readme + gap + marked + newline


def _damage(begins: int, ends: int) -> str:
    if begins == ends == 1:
        return "end before begin"
    return f"{begins} × begin, {ends} × end"


def _newline(readme: bytes) -> bytes:
    first = readme.find(b"\n")
    return b"\r\n" if first > 0 and readme[first - 1 : first] == b"\r" else b"\n"
