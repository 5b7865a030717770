"""``lastgood guide``."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lastgood import config
from lastgood.cli.application import command
from lastgood.cli.complete import points
from lastgood.command.guide import FILE
from lastgood.errors import UsageError
from lastgood.process import durable

if TYPE_CHECKING:
    from lastgood.cli.session import Session
    from lastgood.command.guide.report import GuideSection


@command("guide", 3, 4, 5)
def guide_(
    session: Session,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it; - for standard output.")
    ] = Path(FILE),
    html: Annotated[bool, typer.Option("--html", help="Also as one HTML page, beside it.")] = False,
    section: Annotated[
        Path | None,
        typer.Option("--readme", metavar="FILE", help="Add or refresh the section on operations in this README."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; say whether the guide is out of date (status 3).")
    ] = False,
    point: Annotated[
        str | None,
        typer.Option("--point", metavar="POINT", help="Go back to this restore point.", autocompletion=points),
    ] = None,
) -> int | None:
    """Write the rollback procedure as plain commands.

    For somebody who has psql, pg_dump and pg_restore, and not lastgood: with this database's names, tables and roles,
    and its newest restore point. Every block of commands in it can be pasted as it is. It holds no password. Of the
    database it only reads the catalogue.
    """
    from lastgood.command.guide import freshness, guide, readme
    from lastgood.command.guide import show as shown
    from lastgood.command.guide.report import GuideCheck, GuideReport

    to_stdout = str(output) == "-"
    if check and (html or section is not None or to_stdout):
        raise UsageError(
            "cannot check and write in one call: --check writes nothing",
            hint="Run `lastgood guide --check` alone, and `lastgood guide` with what it shall write.",
            state=config.NOTHING_LOOKED_AT,
        )
    if section is not None and to_stdout:
        raise UsageError(
            "cannot link to standard output: --readme needs a guide in a file",
            hint="Name one with --output, or leave --output out.",
            state=config.NOTHING_LOOKED_AT,
        )
    others = [output.with_suffix(".html")] if html else []
    others += [section] if section is not None else []
    if not to_stdout and output.resolve() in {other.resolve() for other in others}:
        raise UsageError(
            f'cannot write two things to "{output}"',
            hint="Name another file for the guide, with --output.",
            state=config.NOTHING_LOOKED_AT,
        )
    before = _read(output, "check the guide") if check else b""
    around = _read(section, "add a section") if section is not None else b""
    file = session.settings.file
    with session.events() as emit:
        subject = guide.look(
            session.target,
            session.settings.store,
            point=point,
            tables=session.settings.tables,
            state=session.settings.state,
            folder=file.absolute().parent if file is not None else None,
            file=FILE if to_stdout else output.name,
            emit=emit,
        )
    if check:
        reasons = tuple(freshness.stale(before.decode("utf-8", "replace"), subject))
        found = GuideCheck(file=str(output), current=not reasons, reasons=reasons)
        session.result(found.document(), lambda: shown.show_check(session.screen, found))
        return 3 if reasons else None
    text = shown.document(subject)
    beside = output.with_suffix(".html") if html else None
    if to_stdout and not session.settings.json:
        typer.echo(shown.html(subject, text) if html else text, nl=False)
        return None
    if not to_stdout:
        # What can be refused comes first: then nothing is written.
        merged = (
            readme.with_section(around, shown.operations(subject, output, section), str(section)) if section else b""
        )
        _write(output, text.encode())
        if beside is not None:
            _write(beside, shown.html(subject, text).encode())
        if section is not None and merged != around:
            _write(section, merged)
    report = GuideReport(
        file=str(output),
        html=str(beside) if beside is not None and not to_stdout else None,
        readme=str(section) if section is not None else None,
        database=subject.live,
        point=str(subject.point.path),
        point_made_at=subject.point.made_at.astimezone(UTC),
        made_at=subject.made_at,
        review=subject.review,
        sections=_sections(text),
    )
    session.result(report.document(), lambda: shown.show(session.screen, report))
    return None


def _sections(text: str) -> tuple[GuideSection, ...]:
    from lastgood.command.guide import guide
    from lastgood.command.guide.report import GuideSection

    found: dict[str, list[str]] = {}
    for block in guide.blocks(text):
        found.setdefault(block.section, []).append(block.id)
    return tuple(GuideSection(title=title, blocks=tuple(ids)) for title, ids in found.items())


def _read(file: Path, what: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(
            f'cannot {what}: cannot read "{file}": {(error.strerror or str(error)).lower()}',
            hint="Name the file as it is called from here.",
            state=config.NOTHING_LOOKED_AT,
        ) from error


def _write(file: Path, content: bytes) -> None:
    # What a link points to is written, and keeps its rights.
    place = file.resolve()
    mode = place.stat().st_mode & 0o777 if place.exists() else 0o644
    try:
        with durable.writing(place, mode=mode) as opened:
            opened.write(content)
    except OSError as error:
        raise UsageError(
            f'cannot write "{file}": {(error.strerror or str(error)).lower()}',
            hint="Name a file in a folder that exists and may be written to, with --output.",
        ) from error
