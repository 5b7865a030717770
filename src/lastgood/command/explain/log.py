"""The errors and completed commands in a log, read as a stream of any length.

Recognised are the output of psql, pg_restore and the other programs, the server's log in its three formats, and errors
of drivers that contain the server's message or a SQLSTATE.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import psycopg

from lastgood.command.explain.case import DISTINCTIVE, Library

BLOCK = 1 << 16
LONGEST = 16_384  # characters of a line that are read: a row may have a gigabyte
SQLSTATE = re.compile(r"[0-9A-Z]{5}")

_MARKS = (b"\xff\xfe", b"\xfe\xff")
_CONTROL = bytes(number for number in (*range(1, 32), 127) if number not in b"\t\n\v\f\r\b\x1b")

_STATE_NAMED = re.compile(
    r"""\bsql_?state\b\W{0,3}([0-9A-Z]{5})\b|\bcode['"]?: ?['"]([0-9A-Z]{5})['"]""", re.IGNORECASE
)
_CLASS_NAMED = re.compile(r"\b(?:psycopg2?\.errors\.|PG::|asyncpg\.exceptions\.)(\w+?)(?:Error)?\b")
_CSV = re.compile(r',(ERROR|FATAL|PANIC|WARNING|LOG),([0-9A-Z]{5}),"((?:[^"]|"")*)"')
_PROGRAM = re.compile(
    r"(?P<program>psql|pg_restore|pg_dump|pg_dumpall|pg_basebackup|createdb|dropdb|gzip|gunzip|zstd|lz4|xz)"
    r"(?P<place>:.*?:\d+)?: (?:(?:\[[^\]]*\]|(?P<kind>[^\s:]+) ?): )?(?P<message>.*)"
)
_LASTGOOD = re.compile(r"error: (cannot .*)")
# The lines below our message, and the fields of its JSON document.
_LASTGOOD_MORE = re.compile(r"(state|next): +(.*)|( {7})(\S.*)")
_LASTGOOD_JSON = re.compile(r' *"(message|hint|state)": ("(?:[^"\\]|\\.)*"),?')
# The tags that psql prints for completed commands.
_COMPLETED = re.compile(
    r"(?:SET|RESET|BEGIN|COMMIT|ROLLBACK|GRANT|REVOKE|COMMENT|(?:CREATE|ALTER|DROP|REFRESH|TRUNCATE|SECURITY) [A-Z ]+"
    r"|(?:COPY|UPDATE|DELETE|SELECT) \d+|INSERT \d+ \d+)"
)
_COPY_LINE = re.compile(r"COPY (\S+), .*?(\d+)")

_SEVERE = ("ERROR", "FATAL", "PANIC")
_MILD = ("WARNING", "NOTICE", "INFO", "LOG")
_MORE = ("DETAIL", "HINT", "CONTEXT", "STATEMENT", "QUERY", "LOCATION")


@dataclass(slots=True)
class LogError:
    """One error of a log. ``severe`` is false for a warning. ``program``: the program that printed it ("psql" for
    messages of the server shown by psql, "server" for the server's log, "" if unknown)."""

    line: int
    message: str
    sqlstate: str | None = None
    severe: bool = True
    program: str = ""
    more: dict[str, str] = field(default_factory=dict)

    @property
    def copying(self) -> tuple[str, int] | None:
        """The table and the line of the COPY that failed, if any."""
        found = _COPY_LINE.match(self.more.get("COPY", "")) or _COPY_LINE.match(self.more.get("CONTEXT", ""))
        return (found[1], int(found[2])) if found else None


@dataclass(frozen=True, slots=True)
class CompletedCommand:
    """A command that psql reported as completed, with its tag."""

    line: int
    tag: str


def known_state(text: str) -> bool:
    """Whether ``text`` is a SQLSTATE of PostgreSQL."""
    if text == "01000":
        return True  # psycopg has no classes for warnings
    try:
        return bool(SQLSTATE.fullmatch(text)) and psycopg.errors.lookup(text) is not None
    except KeyError:
        return False


def is_binary(sample: bytes) -> bool:
    """Whether the first bytes of a file are not text: text in any encoding has few control characters. Zeros do not
    count, because a server crash leaves them in its log."""
    if sample.startswith(_MARKS):
        return False
    return len(sample) - len(sample.translate(None, delete=_CONTROL)) > len(sample) // 50


def lines(stream: BinaryIO) -> Iterator[str]:
    """Yield lines without their ends, from UTF-8 or UTF-16 with a mark (PowerShell's ``>``), truncated at
    ``LONGEST``."""
    mark = stream.read(2)
    encoding = dict(zip(_MARKS, ("utf-16-le", "utf-16-be"), strict=True)).get(mark, "utf-8")
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)("replace"), translate=True)
    unfinished = "" if encoding != "utf-8" else decoder.decode(mark)
    cutting = False
    while block := stream.read(BLOCK):
        *complete, unfinished = (unfinished + decoder.decode(block)).split("\n")
        for line in complete:
            if not cutting:
                yield line[:LONGEST].removeprefix("\ufeff")
            cutting = False
        if len(unfinished) > LONGEST:
            if not cutting:
                yield unfinished[:LONGEST]
            unfinished, cutting = "", True  # the rest of a very long line is skipped
    unfinished += decoder.decode(b"", final=True)
    if unfinished and not cutting:
        yield unfinished[:LONGEST].removeprefix("\ufeff")


class LogReader:
    """Parses lines into ``LogError`` and ``Done``."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._kinds = {
            word: english
            for english in (*_SEVERE, *_MILD, *_MORE)
            for word in (english, *library.words.get(english, ()))
        }
        longest_first = sorted(self._kinds, key=len, reverse=True)
        self._word = re.compile(
            r"(?:^|(?<=[\s:\]]))(" + "|".join(map(re.escape, longest_first)) + r")[ \xa0]?:(?: +|$)"
            r"(?:(?P<state>[0-9A-Z]{5})(?:: +|$))?(?P<message>.*)"
        )
        commands = ("Command was", *(words.partition("%")[0].strip(" :") for words in library.words.get("Command", ())))
        self._command = re.compile("(?:" + "|".join(map(re.escape, commands)) + r") ?: (.*)")
        self._severe_kinds = {"error", "fatal", *(word.casefold() for word in library.words.get("error", ()))}
        self._open: LogError | None = None
        self.count = 0

    def read(self, text: Iterator[str]) -> Iterator[LogError | CompletedCommand]:
        """Yield the errors and completed commands, in order."""
        for line in text:
            self.count += 1
            parsed = self._line(line)
            if parsed is not None:
                yield from self._close()
                if isinstance(parsed, LogError):
                    self._open = parsed
                else:
                    yield parsed
        yield from self._close()

    def _close(self) -> Iterator[LogError]:
        if self._open is not None:
            yield self._open
        self._open = None

    def _line(self, line: str) -> LogError | CompletedCommand | None:
        if not line or line.startswith("\t"):
            return None  # a line that begins with a tab continues the one above
        if (ours := self._lastgood_error(line)) is not None or self._continues_lastgood_error(line):
            return ours
        if _COMPLETED.fullmatch(line):
            return CompletedCommand(self.count, line)
        if line.startswith("{") and (found := self._json(line)) is not None:
            return found
        if (csv := _CSV.search(line)) is not None:
            return self._error(csv[1], csv[3].replace('""', '"'), csv[2], "server")
        if (word := self._word.search(line)) is not None:
            kind = self._kinds[word[1]]
            if kind in _MORE:
                if self._open is not None:
                    self._open.more.setdefault(kind, word["message"])
                return None
            return self._error(kind, word["message"], word["state"], self._printing_program(line, word.start(1)))
        if (command := self._command.match(line)) is not None:
            if self._open is not None:
                self._open.more["STATEMENT"] = command[1]
            return None
        return self._program(line) or self._plain(line)

    def _printing_program(self, line: str, begins: int) -> str:
        program = _PROGRAM.match(line)
        if program is not None:
            return program["program"]
        if begins == 0:
            return "psql"
        return "server" if line[0].isdigit() or line[0] == "[" else ""

    def _error(self, kind: str, message: str, sqlstate: str | None, program: str) -> LogError | None:
        if sqlstate is not None and not known_state(sqlstate):
            sqlstate, message = None, f"{sqlstate}: {message}".removesuffix(": ")
        severe = kind in _SEVERE
        sqlstate = sqlstate or self._state_in(message)
        if not severe:
            case = self._library.by_text(message, sqlstate, minimum=DISTINCTIVE)
            if case is None or (kind in ("NOTICE", "INFO") and not case.minor):
                return None  # an unremarkable message
        return LogError(self.count, message, sqlstate, severe, program)

    def _json(self, line: str) -> LogError | None:
        try:
            fields = json.loads(line)
        except ValueError:
            return None
        message = fields.get("message") if isinstance(fields, dict) else None
        if not isinstance(message, str):
            return None
        state = fields.get("state_code") or fields.get("code") or fields.get("sqlstate")
        kind = str(fields.get("error_severity", "ERROR"))
        sqlstate = state if isinstance(state, str) and known_state(state) else None
        return self._error(kind, message, sqlstate, "server" if "state_code" in fields else "")

    def _lastgood_error(self, line: str) -> LogError | None:
        """Parse a message of lastgood, as text or in its JSON document."""
        text = ours[1] if (ours := _LASTGOOD.match(line)) is not None else ""
        if (field_match := _LASTGOOD_JSON.fullmatch(line)) is not None and field_match[1] == "message":
            text = _text_of(field_match[2])
        return (
            LogError(self.count, text, self._state_in(text), True, "lastgood") if text.startswith("cannot ") else None
        )

    def _continues_lastgood_error(self, line: str) -> bool:
        """Whether a line belongs to a message of lastgood. Its state and hint are kept."""
        if self._open is None or self._open.program != "lastgood":
            return False
        more, field_match, below = self._open.more, _LASTGOOD_JSON.fullmatch(line), _LASTGOOD_MORE.fullmatch(line)
        if field_match is not None:
            more["next" if field_match[1] == "hint" else field_match[1]] = _text_of(field_match[2])
        elif below is None:
            return False
        elif below[1]:
            more[below[1]] = below[2]
        elif not more:
            self._open.message = f"{self._open.message} {below[4]}"[:LONGEST]
        else:
            last = next(reversed(more))
            more[last] = f"{more[last]} {below[4]}"[:LONGEST]
        return True

    def _program(self, line: str) -> LogError | None:
        """Parse a message of a program about itself; psql before version 12 omits its name."""
        program = _PROGRAM.match(line)
        if program is None:
            return None
        kind, message = program["kind"], program["message"]
        known = self._library.by_text(message, minimum=DISTINCTIVE) is not None
        severe = kind is not None and kind.casefold() in self._severe_kinds
        if known or severe:
            return LogError(self.count, message, self._state_in(line), severe or kind is None, program["program"])
        return None

    def _plain(self, line: str) -> LogError | None:
        """Parse any other line that has a known error or a SQLSTATE."""
        if self._open is not None and _COPY_LINE.match(line):
            self._open.more.setdefault("COPY", line)  # a context of several lines
            return None
        state = self._state_in(line)
        if self._open is not None and self._open.sqlstate is None and state is not None:
            self._open.sqlstate = state  # drivers for Node.js print the code below the message
            return None
        if known_state(line.strip()):
            return LogError(self.count, "", line.strip())
        if state is not None or self._library.by_text(line, minimum=DISTINCTIVE) is not None:
            return LogError(self.count, line.strip(), state, True, "psql" if self._of_psql(line) else "")
        return None

    def _of_psql(self, line: str) -> bool:
        return line.startswith(("invalid command \\", "backslash commands are restricted"))

    def _state_in(self, line: str) -> str | None:
        match = _STATE_NAMED.search(line)
        if match is not None:
            state = (match[1] or match[2]).upper()
            return state if known_state(state) else None
        raised = _CLASS_NAMED.search(line)
        if raised is not None:
            for name in (raised[1], raised[1] + "Error"):
                if (error_class := getattr(psycopg.errors, name, None)) is not None:
                    state = getattr(error_class, "sqlstate", None)
                    return state if isinstance(state, str) else None
        return None


def _text_of(literal: str) -> str:
    try:
        return str(json.loads(literal))
    except ValueError:
        return ""
