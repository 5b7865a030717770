"""``lastgood diff``."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from lastgood.cli import lengths
from lastgood.cli.application import command
from lastgood.cli.complete import points
from lastgood.cli.operands import DATABASE, operands
from lastgood.errors import NOT_REACHED, Failed, os_reason
from lastgood.events import reported
from lastgood.text import redact

if TYPE_CHECKING:
    from lastgood.cli.session import Session
    from lastgood.command.diff.diff import DiffReport, TableRows
    from lastgood.difference import Comparison, FileForm, Side

FIRST = 20


class DiffLevel(StrEnum):
    """The precision of a comparison."""

    DIGEST = "digest"
    COUNT = "count"


class Form(StrEnum):
    """The format of the rows."""

    TEXT = "text"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


_FORMS: dict[Form, FileForm] = {Form.CSV: "csv", Form.JSON: "json", Form.PARQUET: "parquet"}


@command("diff", 3, 4, 5)
def diff(
    session: Session,
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A restore point, a kept database, the URL of a database, or - for standard input.",
            autocompletion=points,
        ),
    ],
    b: Annotated[
        str | None,
        typer.Argument(metavar="B", help="The same; by default the live database.", autocompletion=points),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Compare A with the live database (the default).")] = False,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="NAME", help="Only this table; * stands for any text. May be repeated."),
    ] = None,
    level: Annotated[
        DiffLevel,
        typer.Option("--level", help="digest: whether the rows of each table are equal; count: how many differ."),
    ] = DiffLevel.COUNT,
    rows: Annotated[bool, typer.Option("--rows", help="Show the rows that differ.")] = False,
    first: Annotated[
        int, typer.Option("--first", metavar="NUMBER", min=1, help="How many rows of each table --rows shows.")
    ] = FIRST,
    form: Annotated[
        Form, typer.Option("--format", help="The format of the differing rows; all but text need --output.")
    ] = Form.TEXT,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FOLDER", help="Write all differing rows, one file for each table."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the result as an HTML page, too.")
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option("--limit", metavar="LENGTH", help="Stop after this time (60s); what was not compared is named."),
    ] = None,
    database: Annotated[str | None, typer.Option("--database", metavar="DATABASE", help=DATABASE)] = None,
) -> int | None:
    """Compare two states of a database, row by row.

    Counts for each table the rows that only A has, that only B has, and that both have under the same key with other
    content: by primary key, else by a unique key, else as whole rows. Both sides are read in one snapshot each, and
    nothing is changed. A difference exits with 3.
    """
    from lastgood.command.diff import diff as differences
    from lastgood.command.diff import show as shown
    from lastgood.command.diff.diff import DiffReport
    from lastgood.config import connection_string
    from lastgood.difference import compared

    given = [name for name in (a, b) if name is not None]
    for name in given:
        if redact.is_url(name):
            connection_string.check(name, "the command line")
            session.scrub.learn_from(name, {})
    settings = session.settings
    patterns = table or ()
    with session.work() as context, operands(given, settings.store, context.emit) as names:
        sides: list[Side] = [differences.side_of(name, settings.store, session.target, database) for name in names]
        if b is None:
            sides.append(differences.live_side(session.target))
        only = differences.wanted(patterns, sides)
        with (
            reported(context.emit, "difference", "compare the two sides") as stage,
            compared(
                sides[0],
                sides[1],
                level=level.value,
                keep=rows or output is not None,
                only=only,
                check=lambda relations: differences.refuse_unmatched(patterns, [*filter(only, relations)]),
                seconds=None if limit is None else lengths.seconds("--limit", limit),
                context=context,
            ) as found,
        ):
            stage.detail = shown.summary(found.tables)
            report = DiffReport(
                a=sides[0].label,
                b=sides[1].label,
                equal=found.equal,
                tables=found.tables,
                renames=found.renames,
                rows=tuple(_rows(session, found, first)) if rows else (),
                files=tuple(_write(session, found, output, form)) if output is not None else (),
            )
    if html is not None:
        _write_page(session, html, report)
    session.result(report.document(), lambda: shown.show(session.screen, report))
    return None if report.equal else 3


def _rows(session: Session, found: Comparison, first: int) -> Iterator[TableRows]:
    from lastgood.command.diff import diff as differences

    settings = session.settings.tables.diff
    for each in differences.differing(found):
        yield differences.rows_of(found, each, first, settings.hidden(each.schema_name, each.name, each.columns))


def _write(session: Session, found: Comparison, folder: Path, form: Form) -> Iterator[str]:
    """Write the rows of each differing table to a file in ``folder``; yields the paths. Raises Failed."""
    from lastgood.command.diff import diff as differences

    settings = session.settings.tables.diff
    for each in differences.differing(found):
        path = folder / f"{quote(each.table, safe=' ')}.{form.value}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found.write(each, path, _FORMS[form], masked=settings.hidden(each.schema_name, each.name, each.columns))
        except OSError as error:
            raise _not_written(path, error, "--output") from error
        yield str(path)


def _write_page(session: Session, path: Path, report: DiffReport) -> None:
    from lastgood.command.diff import show as shown
    from lastgood.process import durable
    from lastgood.screen.blocks import as_markdown
    from lastgood.screen.page import page

    text = page(f"{report.a} and {report.b}", as_markdown(shown.blocks(report)))
    try:
        with durable.written_file(path, mode=0o600) as file:
            file.write(session.scrub(text).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise _not_written(path, error, "--html") from error


def _not_written(path: Path, error: OSError, option: str) -> Failed:
    return Failed(
        f'cannot write "{path}": {os_reason(error)}',
        hint=f"Name another place with {option}.",
        state=NOT_REACHED,
    )
