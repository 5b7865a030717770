"""``lastgood explain``."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from lastgood import config
from lastgood.cli.application import command
from lastgood.errors import UsageError, os_reason
from lastgood.journal import run_names

if TYPE_CHECKING:
    from lastgood.cli.session import Session

# Bytes at the beginning of a file that its type is detected from.
SAMPLE = 1 << 13
# The beginnings of dumps, which are not logs.
_DUMPS = (b"PGDMP", b"--\n-- PostgreSQL database", b"--\r\n-- PostgreSQL database", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


@command("explain", 3)
def explain(
    session: Session,
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT|FILE|RUN|-",
            help="An error or SQLSTATE, a file with a log, the name of a run, or - for standard input; "
            "the newest run when left out.",
        ),
    ] = None,
) -> int | None:
    """Explain an error, a log or a run: cause, data, next command.

    Takes an error as it was printed, a SQLSTATE, a log of psql, pg_restore, the server or an application, or the name
    of a run of lastgood. Connects to no server. Exits with status 3 if no error is recognised.
    """
    from lastgood.command.explain import explain as explaining
    from lastgood.command.explain import run as explained_run
    from lastgood.command.explain import show as shown

    text = " ".join(what or ())
    name = text if run_names.is_run(text) else _newest(session, text)
    if name is not None:
        story = explained_run.explain_run(session.settings.state, name)
        session.result({"run": story.model_dump(mode="json")}, lambda: shown.show_run(session.screen, story))
        return None
    if _is_text(text):
        explained = explaining.explain_text(text)
    else:
        with _open_log(text) as (stream, source):
            explained = explaining.explain(stream, source)
    session.result(explained.model_dump(mode="json"), lambda: shown.show(session.screen, explained))
    return None if explained.recognised else 3


def _newest(session: Session, text: str) -> str | None:
    """Return the newest run, if neither an argument nor standard input is given."""
    from lastgood.command.explain.run import newest

    if text or not _is_terminal():
        return None
    name = newest(session.settings.state)
    if name is None:
        raise UsageError(
            "cannot explain: no error or log is given, and this machine has no record of any run",
            hint='Give the error: lastgood explain "ERROR: …", a log: lastgood explain FILE, or pipe a log in.',
            state=config.NOTHING_READ,
        )
    return name


def _is_terminal() -> bool:
    return sys.stdin is None or sys.stdin.isatty()


@contextmanager
def _open_log(text: str) -> Iterator[tuple[BinaryIO, str]]:
    """Provide the stream to read and its name."""
    if text in ("", "-"):
        if sys.stdin is None:
            raise UsageError("cannot explain: standard input is closed", state=config.NOTHING_READ)
        _check_is_text(sys.stdin.buffer, "standard input")
        yield sys.stdin.buffer, "standard input"
        return
    try:
        with Path(text).open("rb") as stream:
            if stream.peek(64).startswith(_DUMPS):
                raise UsageError(
                    f'cannot explain "{text}": the file is a dump, not a log',
                    hint=f"To verify it, run: lastgood points verify {text}",
                    state=config.NOTHING_READ,
                )
            _check_is_text(stream, f'"{text}"')
            yield stream, f'"{text}"'
    except OSError as error:
        raise UsageError(
            f'cannot explain "{text}": {os_reason(error)}',
            hint='Give a file, or an error in quotes: lastgood explain "ERROR: …"',
            state=config.NOTHING_READ,
        ) from error


def _check_is_text(stream: object, name: str) -> None:
    """Raise UsageError for a binary file: it has no lines, and reading it would take minutes."""
    from lastgood.command.explain.log import is_binary

    sample = stream.peek(SAMPLE)[:SAMPLE] if isinstance(stream, io.BufferedReader) else b""
    if is_binary(sample):
        raise UsageError(
            f"cannot explain {name}: the file is not text",
            hint="Give a log of psql, pg_restore, the server or an application. Decompress a compressed log first.",
            state=config.NOTHING_READ,
        )


def _is_text(text: str) -> bool:
    """Whether ``text`` is an error, not the name of a file."""
    if text in ("", "-"):
        return False
    try:
        return not Path(text).exists() and not _looks_like_file_name(text)
    except (OSError, ValueError):
        return True  # too long for a file name, or with an invalid character


def _looks_like_file_name(text: str) -> bool:
    """Whether ``text`` looks like a file name: one word with a folder or an extension."""
    return " " not in text and ("/" in text or Path(text).suffix in (".log", ".txt", ".out", ".err", ".sql", ".json"))
