"""The command line: thin commands that parse, call the public API and render the result."""

from __future__ import annotations

import codecs
import difflib
import io
import logging
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress

import typer

from lastgood import fault
from lastgood.cli.application import app
from lastgood.cli.call import Call
from lastgood.errors import Interrupted, UsageError

# What a terminal without Unicode shows for the typographic characters of our texts.
_PLAIN = str.maketrans({"−": "-", "–": "-", "—": "-", "…": "...", "×": "x", "→": "->", "·": "-", "“": '"', "”": '"'})


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that the encoding of a stream lacks: ours by their plain form, others by "?"."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end].translate(_PLAIN)
    return lacking.encode("ascii", "replace").decode("ascii"), error.end


codecs.register_error("lastgood", _plain)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    # Streams closed by the caller (a cron job, a daemon) are no error.
    sys.stdout = sys.stdout or io.StringIO()
    sys.stderr = sys.stderr or io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A name that the terminal cannot display must not stop a rollback.
            stream.reconfigure(errors="lastgood")
    # psycopg's warnings (a lost connection) do not help an operator, and would break the JSON lines on stderr.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    # Another signal, while the result is printed, does not change the status.
    status = Interrupted.exit_status
    with suppress(KeyboardInterrupt), ExitStack() as until_its_end:
        call = Call(sys.argv[1:] if arguments is None else arguments, until_its_end)
        try:
            status = _status(call)
        finally:
            call.over()
    return status


def _status(call: Call) -> int:
    """Run the command and convert errors to exit statuses; the only place that does."""
    try:
        fault.arm_from_environment()
        status = app(call.words, prog_name="lastgood", standalone_mode=False, obj=call)
    except typer.TyperException as error:
        return call.session.failed(_usage(error))
    except (Exception, KeyboardInterrupt) as error:
        return call.session.ended_by(error)
    return status if isinstance(status, int) else 0


def _usage(error: typer.TyperException) -> UsageError:
    why = error.format_message().rstrip(".")
    message = f"{why[:1].lower()}{why[1:]}"
    context = getattr(error, "ctx", None)
    path = "lastgood" if context is None else context.command_path  # with the group: "lastgood points"
    hint = f"`{path} --help` lists its options and arguments."
    if "no such command" in message:
        message, _, _ = message.partition(". Did you mean")
        meant = re.search(r"Did you mean '([\w-]+)'", why)
        hint = f"Run: {path} {meant[1]}; `{path} --help` lists all commands." if meant is not None else _COMMANDS
    elif option := re.match(r"no such option: (\S+)(?: \(Possible options: (.+)\))?", message):
        message = f'no such option "{option[1]}"'
        near = difflib.get_close_matches(option[1], (option[2] or "").split(", "), 1, 0.8)
        hint = "".join(f"Did you mean {each}? " for each in near) + hint
    elif extra := re.match(r"got unexpected extra argument\S* \((.+)\)", message):
        message = f'unexpected argument "{extra[1]}"'
    return UsageError(
        f"cannot run this command: {message.replace(chr(39), chr(34))}", hint=hint, state="Nothing was read or changed."
    )


_COMMANDS = "`lastgood --help` lists the commands, `lastgood COMMAND --help` explains one."
