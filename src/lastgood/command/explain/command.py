"""``lastgood explain``: what an error, a log or a run means."""

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
from lastgood.errors import UsageError
from lastgood.journal import run_names

if TYPE_CHECKING:
    from lastgood.cli.session import Session

# How much of a file is looked at to see what it is.
SAMPLE = 1 << 13
# What is a dump and no log; a log that begins like that has nothing to explain.
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
    of a run of lastgood. Asks no server. Ends with 3 when nothing in it is known.
    """
    from lastgood.command.explain import explain as explaining
    from lastgood.command.explain import show as shown

    text = " ".join(what or ())
    name = text if run_names.is_run(text) else _newest(session, text)
    if name is not None:
        story = explaining.explain_run(session.settings.state, name)
        session.result({"run": story.model_dump(mode="json")}, lambda: shown.show_run(session.screen, story))
        return None
    if _is_text(text):
        found = explaining.explain_text(text)
    else:
        with _opened(text) as (stream, source):
            found = explaining.explain(stream, source)
    session.result(found.model_dump(mode="json"), lambda: shown.show(session.screen, found))
    return None if found.recognised else 3


def _newest(session: Session, text: str) -> str | None:
    """With nothing to read: the newest run."""
    from lastgood.command.explain import explain as explaining

    if text or not _is_terminal():
        return None
    name = explaining.newest(session.settings.state)
    if name is None:
        raise UsageError(
            "cannot explain: nothing was given, and this machine has no run of lastgood",
            hint='Give the error: lastgood explain "ERROR: …", a log: lastgood explain FILE, or pipe one in.',
            state=config.NOTHING_LOOKED_AT,
        )
    return name


def _is_terminal() -> bool:
    return sys.stdin is None or sys.stdin.isatty()


@contextmanager
def _opened(text: str) -> Iterator[tuple[BinaryIO, str]]:
    """What is to be read, and how it is called."""
    if text in ("", "-"):
        if sys.stdin is None:
            raise UsageError("cannot explain: standard input is closed", state=config.NOTHING_LOOKED_AT)
        _must_be_text(sys.stdin.buffer, "standard input")
        yield sys.stdin.buffer, "standard input"
        return
    try:
        with Path(text).open("rb") as stream:
            if stream.peek(64).startswith(_DUMPS):
                raise UsageError(
                    f'cannot explain "{text}": it is a dump, not the log of one',
                    hint=f"To verify it, run: lastgood points verify {text}",
                    state=config.NOTHING_LOOKED_AT,
                )
            _must_be_text(stream, f'"{text}"')
            yield stream, f'"{text}"'
    except OSError as error:
        raise UsageError(
            f'cannot explain "{text}": {(error.strerror or str(error)).lower()}',
            hint='Give a file, or an error in quotes: lastgood explain "ERROR: …"',
            state=config.NOTHING_LOOKED_AT,
        ) from error


def _must_be_text(stream: object, name: str) -> None:
    """A log that is none: it has no lines, and looking at them would take minutes. Raises UsageError."""
    from lastgood.command.explain import explain as explaining

    sample = stream.peek(SAMPLE)[:SAMPLE] if isinstance(stream, io.BufferedReader) else b""
    if explaining.is_binary(sample):
        raise UsageError(
            f"cannot explain {name}: it is not text",
            hint="Give a log as psql, pg_restore, the server or an application wrote it; one that is compressed must "
            "be unpacked first.",
            state=config.NOTHING_LOOKED_AT,
        )


def _is_text(text: str) -> bool:
    """Whether it is the error itself, and neither a file nor meant as one."""
    if text in ("", "-"):
        return False
    try:
        return not Path(text).exists() and not _like_a_name(text)
    except (OSError, ValueError):
        return True  # too long for a name, or with a character that none has


def _like_a_name(text: str) -> bool:
    """Whether a person meant a file: one word with a folder in it, or with an ending."""
    return " " not in text and ("/" in text or Path(text).suffix in (".log", ".txt", ".out", ".err", ".sql", ".json"))
