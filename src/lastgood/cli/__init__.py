"""The command line: thin commands that parse, call the public API and render what comes back."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

import typer

from lastgood import fault
from lastgood.cli.application import ORDER, app
from lastgood.cli.session import Session, as_shown
from lastgood.errors import Interrupted, UsageError
from lastgood.process import interrupts

# The module of each command below ``lastgood.command``; importing one registers its commands.
MODULES = {name: f"{name}.command" for name in ORDER} | {
    "resume": "rollback.command",
    "abort": "rollback.command",
    "undo": "rollback.undo",
    "backup": "points.backup",
    "runs": "report.list",
}


def load(command: str = "") -> None:
    """Registers a command, or all of them: what one needs is a third of a second less to load than everything."""
    for module in (MODULES[command],) if command in MODULES else sorted(set(MODULES.values())):
        import_module(f"lastgood.command.{module}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # A caller that closed them (a cron job, a daemon) does not want to hear; that is no reason to fail.
    sys.stdout = sys.stdout or io.StringIO()
    sys.stderr = sys.stderr or io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a name that the terminal can't show must not stop a rollback
    # psycopg's own warnings (a lost connection) tell an operator nothing, and would break the JSON lines on stderr.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    session = Session(words)
    # SIGTERM and SIGHUP end a command as Ctrl+C does, wherever it is: cleaned up, in a sentence, with status 130. One
    # more, while the end is being shown, does not change the status.
    status = Interrupted.exit_status
    with suppress(KeyboardInterrupt), interrupts.raising():
        try:
            status = _status(session, words)
        finally:
            session.over()
    return status


def _status(session: Session, words: list[str]) -> int:
    """The one place where errors become exit statuses."""
    try:
        fault.arm_from_environment()
        load(words[0] if words else "")
        status = app(words, prog_name="lastgood", standalone_mode=False, obj=session)
    except typer.TyperException as error:
        return session.failed(_usage(error))
    except (Exception, KeyboardInterrupt) as error:
        return session.failed(as_shown(error) or session.defect(error))
    return status if isinstance(status, int) else 0


def _usage(error: typer.TyperException) -> UsageError:
    why = error.format_message().rstrip(".")
    return UsageError(
        f"cannot run this command: {why[:1].lower()}{why[1:]}",
        hint="`lastgood --help` lists the commands, `lastgood COMMAND --help` explains one.",
        state="Nothing was looked at or changed.",
    )
