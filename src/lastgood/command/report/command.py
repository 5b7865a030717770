"""``lastgood report``."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lastgood import config
from lastgood.cli.application import command
from lastgood.cli.complete import runs
from lastgood.errors import NOT_REACHED, Failed, Refused, UsageError, os_reason
from lastgood.journal import run_names
from lastgood.process import durable
from lastgood.text.redact import scrubbed

if TYPE_CHECKING:
    from lastgood.cli.session import Session
    from lastgood.command.report.report import RunRecord

from typing import TYPE_CHECKING

from lastgood.journal.recording import KINDS

if TYPE_CHECKING:
    from lastgood.cli.session import Session


class Format(StrEnum):
    """The formats of a report."""

    text = "text"
    markdown = "markdown"
    html = "html"
    json = "json"


_ENDINGS = {".md": Format.markdown, ".html": Format.html, ".htm": Format.html, ".json": Format.json}
_TO_STDOUT = "-"


@command("report", 3, 5)
def report(
    session: Session,
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="The run (default: the newest).", autocompletion=runs)
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format", metavar="FORMAT", help="text, markdown, html or json (default: by the ending of --output)."
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="The output file; - for standard output.")
    ] = None,
    draft: Annotated[
        bool,
        typer.Option("--post-mortem", help="Write a draft of the post-mortem, in Markdown, to post-mortem-RUN.md."),
    ] = False,
    done: Annotated[
        list[str] | None,
        typer.Option(
            "--done", metavar="ITEM", help="Mark this item of the checklist after the run as done; may be repeated."
        ),
    ] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="The person who attests --done.")] = None,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="A note for the item.")] = "",
) -> None:
    """Report what a run did and what is left to do.

    Shows the time, the operator, the loss and the proof. Reads the run's journal and the present state of the server;
    changes nothing. If the journal is on another machine, the report is limited to the marks on the server. --done ITEM
    --by NAME records in the journal who confirmed an item of the checklist after the run.
    """
    from lastgood.command.report import report as record
    from lastgood.command.report import show as shown

    settings = session.settings
    if run is not None and not run_names.is_run(run):
        raise UsageError(
            f'cannot report on "{run}": not the name of a run',
            hint="List the runs with: lastgood runs",
            state=config.NOTHING_READ,
        )
    if bool(done) != (by is not None) or (note and not done):
        raise UsageError(
            "cannot attest an item: --done and --by must be given together",
            hint="lastgood report RUN --done ITEM --by NAME",
            state=config.NOTHING_READ,
        )
    inquiry = record.Inquiry.of(session.settings, session.target)
    if run is None and (done or draft):
        run = record.newest_incident(inquiry)
    if done and by is not None and run is not None:
        record.attest(settings.state, run, done, by, session.scrub(note), settings.tables.record)
    run_record = record.record_of(inquiry, run)
    if done and form is None and output is None and not draft:
        session.result(run_record.document(), lambda: shown.show_checklist(session.screen, run_record))
    elif draft:
        _write_draft(session, run_record, output)
    else:
        _write(session, run_record, form or _guessed(session, output), output)


def _guessed(session: Session, output: str | None) -> Format:
    if session.settings.json:
        return Format.json
    return _ENDINGS.get(Path(output).suffix.lower(), Format.text) if output is not None else Format.text


def _write(session: Session, found: RunRecord, form: Format, output: str | None) -> None:
    from lastgood.command.report import show as shown

    to_file = output not in (None, _TO_STDOUT)
    if form is Format.json and not to_file:
        session.screen.document(found.document())
        return
    if form is Format.text and not to_file:
        shown.show(session.screen, found)
        return
    text = session.scrub(_text(session, found, form))
    if output is None or not to_file:
        session.screen.out.file.write(text)
        return
    path = Path(output)
    try:
        with durable.written_file(path, mode=0o644) as file:
            file.write(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise _not_written(path, error) from error
    _show_file(session, path, found)


def _text(session: Session, found: RunRecord, form: Format) -> str:
    from lastgood.command.report import show as shown

    if form is Format.json:
        return json.dumps(scrubbed(found.document(), session.scrub), indent=2) + "\n"
    if form is Format.html:
        return shown.page_of(found)
    if form is Format.markdown:
        return shown.markdown_of(found)
    return shown.text_of(found)


def _write_draft(session: Session, found: RunRecord, output: str | None) -> None:
    from lastgood.command.report import post_mortem

    text = session.scrub(post_mortem.draft(found))
    if output == _TO_STDOUT:
        session.screen.out.file.write(text)
        return
    path = Path(output or f"post-mortem-{found.run}.md")
    try:
        # Never overwrite a file: it may have been edited.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise Refused(
            f'cannot write the draft "{path}": the file exists and may have been edited',
            hint="Name another file with --output FILE, or print the draft with --output -.",
            state=NOT_REACHED,
        ) from None
    except OSError as error:
        raise _not_written(path, error) from error
    _show_file(session, path, found)


def _show_file(session: Session, path: Path, found: RunRecord) -> None:
    session.result({"run": found.run, "file": str(path.absolute())}, lambda: session.screen.say(f'Written: "{path}"'))


def _not_written(path: Path, error: OSError) -> Failed:
    return Failed(
        f'cannot write "{path}": {os_reason(error)}',
        hint="Name another file with --output.",
        state=NOT_REACHED,
    )


@command("runs")
def list_runs(
    session: Session,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help=f"Only these: {', '.join(KINDS)}.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, metavar="N", help="The number of runs to list, the newest first.")
    ] = 20,
) -> None:
    """List past runs: rollbacks, undos, restores and others.

    Shows the operator, time, outcome and duration of each run in the journals of this machine. Validations are listed
    only with --kind validate. Connects to no server.
    """
    from lastgood.command.report import report
    from lastgood.command.report import show as shown

    if kind is not None and kind not in KINDS:
        raise UsageError(
            f'cannot list runs of kind "{kind}": no such kind',
            hint=f"Kinds are {', '.join(KINDS)}.",
            state=config.NOTHING_READ,
        )
    state = session.settings.state
    found = report.runs(state, kind, limit)
    session.result(found.document(), lambda: shown.show_runs(session.screen, found, str(state / "runs")))
