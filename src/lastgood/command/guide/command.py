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
from lastgood.errors import UsageError, os_reason
from lastgood.process import durable

if TYPE_CHECKING:
    from lastgood.cli.session import Session
    from lastgood.command.guide.subject import GuideSection


@command("guide", 3, 4, 5)
def guide_(
    session: Session,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write; - for standard output.")
    ] = Path(FILE),
    html: Annotated[bool, typer.Option("--html", help="Also write it as an HTML page, next to it.")] = False,
    section: Annotated[
        Path | None,
        typer.Option("--readme", metavar="FILE", help="Add or update the section on operations in this README."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; check whether the guide is out of date (status 3).")
    ] = False,
    point: Annotated[
        str | None,
        typer.Option("--point", metavar="POINT", help="The restore point to roll back to.", autocompletion=points),
    ] = None,
) -> int | None:
    """Write the rollback procedure as plain commands.

    For an operator who has psql, pg_dump and pg_restore, but not lastgood. It contains the names, tables and roles of
    this database, and its newest restore point. Every block of commands can be pasted as it is. It contains no
    password. Only the catalogue of the database is read.
    """
    from lastgood.command.guide import freshness, guide
    from lastgood.command.guide import show as shown
    from lastgood.command.guide.subject import GuideCheck, GuideReport

    to_stdout = str(output) == "-"
    if check and (html or section is not None or to_stdout):
        raise UsageError(
            "cannot check the guide: --check and the output options are mutually exclusive",
            hint="Run `lastgood guide --check` without options for output.",
            state=config.NOTHING_READ,
        )
    if section is not None and to_stdout:
        raise UsageError(
            "cannot link to standard output: --readme needs a guide in a file",
            hint="Give a file with --output, or leave --output out.",
            state=config.NOTHING_READ,
        )
    others = [output.with_suffix(".html")] if html else []
    others += [section] if section is not None else []
    if not to_stdout and output.resolve() in {other.resolve() for other in others}:
        raise UsageError(
            f'cannot write two documents to "{output}"',
            hint="Give another file for the guide with --output.",
            state=config.NOTHING_READ,
        )
    before = _read(output, "check the guide") if check else b""
    around = _read(section, "add a section") if section is not None else b""
    file = session.settings.file
    with session.events() as emit:
        subject = guide.subject_of(
            session.target,
            session.settings.store,
            point=point,
            tables=session.settings.tables,
            folder=file.absolute().parent if file is not None else None,
            file=FILE if to_stdout else output.name,
            context=session.context(emit),
        )
    if check:
        reasons = tuple(freshness.outdated_reasons(before.decode("utf-8", "replace"), subject))
        result = GuideCheck(file=str(output), current=not reasons, reasons=reasons)
        session.result(result.document(), lambda: shown.show_check(session.screen, result))
        return 3 if reasons else None
    text = shown.document(subject)
    html_page = output.with_suffix(".html") if html else None
    if to_stdout and not session.settings.json:
        typer.echo(shown.html(subject, text) if html else text, nl=False)
        return None
    if not to_stdout:
        # Steps that can be refused come first, so that nothing is written then.
        merged = (
            freshness.with_section(around, shown.operations(subject, output, section), str(section)) if section else b""
        )
        _write(output, text.encode())
        if html_page is not None:
            _write(html_page, shown.html(subject, text).encode())
        if section is not None and merged != around:
            _write(section, merged)
    report = GuideReport(
        file=str(output),
        html=str(html_page) if html_page is not None and not to_stdout else None,
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
    from lastgood.command.guide.subject import GuideSection

    blocks_by_section: dict[str, list[str]] = {}
    for block in guide.blocks(text):
        blocks_by_section.setdefault(block.section, []).append(block.id)
    return tuple(GuideSection(title=title, blocks=tuple(ids)) for title, ids in blocks_by_section.items())


def _read(file: Path, what: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(
            f'cannot {what}: cannot read "{file}": {os_reason(error)}',
            hint="Check the path; it is relative to the current folder.",
            state=config.NOTHING_READ,
        ) from error


def _write(file: Path, content: bytes) -> None:
    # The target of a link is written, and keeps its permissions.
    place = file.resolve()
    mode = place.stat().st_mode & 0o777 if place.exists() else 0o644
    try:
        with durable.written_file(place, mode=mode) as opened:
            opened.write(content)
    except OSError as error:
        raise UsageError(
            f'cannot write "{file}": {os_reason(error)}',
            hint="Give a file in an existing, writable folder with --output.",
        ) from error
