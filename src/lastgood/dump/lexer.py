r"""Plain pg_dump SQL, as bytes, to commands, comments and rows.

The rules are those of psql's lexer (src/fe_utils/psqlscan.l), so that a file is split here where psql splits it, with
three differences, all on the safe side:

- rows of ``COPY … FROM stdin`` are never read as SQL, whatever becomes of the command itself;
- psql takes the word BEGIN in a function's header for the start of its body, even where it is the function's name;
  here only BEGIN ATOMIC is one;
- a backslash in the middle of a command is an error instead of a psql command.

Memory is bounded by the longest command or row, or by ``BATCH``, not by the length of the dump.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from lastgood.dump.tokens import Comment, CopyData, CopyEnd, CopyStart, MetaCommand, Statement, Token
from lastgood.errors import BadPoint, Corrupt, Incomplete

BATCH = 1 << 18
"""Input is taken in portions of at least this many bytes, and rows are given in portions of about this many."""

_BOM = b"\xef\xbb\xbf"
_NAME_SHOWN = 120

_SPACE = re.compile(rb"[ \t\n\r\f\v]*+")
_LINE_END = re.compile(rb"[\n\r]")
_BLANK_LINE = re.compile(rb"[ \t\f\v\r]*+(?=([^ \t\f\v\r]))")
_WORD = re.compile(rb"[A-Za-z_\x80-\xff][\w$\x80-\xff]*+")
_STRING = re.compile(rb"(?:([eE])|[bBxX]|[uU]&)?'")
_ESCAPED = re.compile(rb"(?:[^'\\]++|\\[\s\S]|'')*+")
_DOLLAR = re.compile(rb"\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*+)?+(\$)?")
_SPACE_AND_COMMENTS = re.compile(rb"(?:[ \t\n\r\f\v]++|--[^\n\r]*+(?=[\n\r]))*+")
_COMMENT_MARK = re.compile(rb"/\*|\*/")
_COPY_END = re.compile(rb"\r?\n")


def _run(*, escapes: bool, keywords: bool) -> re.Pattern[bytes]:
    r"""A pattern for as many complete tokens as possible that can't end a command.

    It stops before what takes more thought: an unbalanced parenthesis, a semicolon, a backslash, a dollar quote, and
    anything whose end is not in the buffer. ``escapes``: a backslash escapes in ordinary strings too
    (standard_conforming_strings is off). ``keywords``: it also stops before the words that bracket a function's body.
    """
    # A word that touches the end of the buffer may go on behind it, or be the prefix of a string.
    ahead = rb"(?=[\s\S])"
    word = rb"[A-Za-z_\x80-\xff][\w$\x80-\xff]*+"
    escaped = rb"'(?:[^'\\]++|\\[\s\S]|'')*+'(?=[^'\s\-])"  # it may be continued behind white space with a line end
    if escapes:
        prefix, strings = rb"(?!(?:[eEbBxX]|[uU]&)')(?![uU]&\Z)", [rb"(?:[bBxX]|[uU]&)'[^']*+'", rb"[eE]?" + escaped]
    else:
        prefix, strings = rb"(?![eE]')", [rb"'[^']*+'", rb"[eE]" + escaped]
    stop = rb"(?!(?i:begin|atomic|case|end)(?![\w$\x80-\xff]))" if keywords else rb""
    number = rb"\$?[0-9]++(?:" + word + rb")?+" + ahead

    def items(stop: bytes) -> bytes:
        return rb"|".join(
            [
                rb"[^\w\x80-\xff'\"$();\\/\-]++",
                stop + prefix + word + ahead,
                number,
                *strings,
                rb"\"[^\"]*+\"",
                rb"--[^\n\r]*+[\n\r]",
                rb"-(?=[^\-])",
                rb"/(?=[^*])",
            ]
        )

    return re.compile(rb"(?:" + items(stop) + rb"|\((?:" + items(b"") + rb")*+\))*+")


_RUNS = {
    (escapes, keywords): _run(escapes=escapes, keywords=keywords)
    for escapes in (False, True)
    for keywords in (False, True)
}

_GAP = rb"(?:[ \t\n\r\f\v]++|--[^\n\r]*+|/\*(?:[^*]++|\*(?!/))*+\*/)++"
_ROUTINE = re.compile(rb"(?i:create" + _GAP + rb"(?:or" + _GAP + rb"replace" + _GAP + rb")?(?:function|procedure)\b)")
_BODY_WORD = re.compile(rb"(?i:begin|atomic|case|end)(?=[^\w$\x80-\xff])")
_ONLY_GAP = re.compile(rb"(?:" + _GAP + rb")?")

_PIECE = re.compile(
    rb"(?P<gap>[ \t\n\r\f\v]++|--[^\n\r]*+)|(?P<word>[A-Za-z_\x80-\xff][\w$\x80-\xff]*+)"
    rb"|\"(?:[^\"]|\"\")*+\"|'[^']*+'|/\*|[\s\S]"
)
_CONFORMING = re.compile(
    rb"(?i:set\s+(?:session\s+|local\s+)?standard_conforming_strings\s*(?:=|\sto\s)\s*'?(?P<value>\w+)'?\s*\Z"
    rb"|reset\s+(?:standard_conforming_strings|all)\s*\Z|discard\s+all\s*\Z)"
)
_ENCODING = re.compile(
    rb"(?i:set\s+(?:session\s+|local\s+)?(?:client_encoding\s*(?:=|\sto\s)|names)\s*'?([\w-]+)'?\s*\Z)"
)
# In these a backslash may be the second half of a character.
_UNREADABLE = frozenset({b"sjis", b"shiftjis", b"mskanji", b"win932", b"windows932", b"shiftjis2004", b"big5",
                         b"win950", b"windows950", b"gbk", b"win936", b"windows936", b"uhc", b"win949",
                         b"windows949", b"gb18030", b"johab"})  # fmt: skip


def tokens(chunks: Iterable[bytes]) -> Iterator[Token]:
    r"""The tokens of a plain dump, in order; how the text is cut into ``chunks`` makes no difference, except that
    neighbouring ``CopyData`` may be cut elsewhere.

    Offsets count from the first byte, a UTF-8 byte order mark included. Empty commands (a semicolon alone) are left
    out. A block of rows ends with a line that is exactly ``\.``, or ``\.`` and a carriage return.
    standard_conforming_strings is on until the text turns it off.

    Raises Incomplete when the text ends inside rows or a command (the line and offset of what is open, innermost
    first), and Corrupt for a NUL byte, for a backslash in the middle of a command and for text after ``COPY … FROM
    stdin;`` on its line. Tokens given before that are sound. Raises BadPoint for a client encoding in which
    backslashes can't be told from halves of characters.
    """
    return _Lexer(chunks).tokens()


class _Lexer:
    """``buffer`` holds the text from offset ``base`` on; ``start`` is the first byte of the token being read and
    ``pos`` the first that was not looked at yet, both as indexes of ``buffer``."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = bytearray()
        self._base = 0
        self._start = 0
        self._pos = 0
        self._counted = 0  # the index up to which line ends are counted in _line
        self._line = 1
        self._ended = False
        self._nul: bytes | None = None  # the text ends here because of a NUL byte: it and some bytes behind it
        self._escapes = False

    # The buffer ---------------------------------------------------------------------------------------------------

    def _more(self) -> bool:
        """Appends at least BATCH bytes, or all that is left; forgets what lies before ``start``. False at the end."""
        if self._ended:
            return False
        if self._start:
            self._line_at_start()
            del self._buffer[: self._start]
            self._base += self._start
            self._pos -= self._start
            self._counted = self._start = 0
        before = len(self._buffer)
        for chunk in self._chunks:
            nul = chunk.find(0)
            if nul >= 0:
                self._buffer += chunk[:nul]
                self._nul = self._behind(chunk[nul:])
                break
            self._buffer += chunk
            if len(self._buffer) - before >= BATCH:
                return True
        self._ended = True
        return len(self._buffer) > before

    def _behind(self, seen: bytes) -> bytes:
        while len(seen) < 16 and (chunk := next(self._chunks, b"")):
            seen += chunk
        return seen[:16]

    def _has(self, count: int) -> bool:
        """Whether ``count`` more bytes could be had from ``pos`` on."""
        while len(self._buffer) - self._pos < count:
            if not self._more():
                return False
        return True

    def _cut(self, start: int, end: int) -> bytes:
        with memoryview(self._buffer) as view:
            return bytes(view[start:end])

    def _line_at_start(self) -> int:
        if self._start > self._counted:
            self._line += self._buffer.count(b"\n", self._counted, self._start)
            self._counted = self._start
        return self._line

    def _place(self, offset: int) -> tuple[int, int]:
        """Line and offset of a byte that lies behind the start of the present token."""
        return self._line_at_start() + self._buffer.count(b"\n", self._start, offset - self._base), offset

    # Errors -------------------------------------------------------------------------------------------------------

    def _cut_off(self, what: str, offset: int) -> BadPoint:
        """The error for a text that ends inside something that began at ``offset``."""
        if self._nul is not None:
            return self._found_nul()
        line, _ = self._place(offset)
        return Incomplete(
            f"cannot read the dump: it ends inside {what}, which began at line {line} (byte {offset})",
            hint="The file was cut off, or its maker was stopped: choose another restore point.",
            line=line,
            offset=offset,
        )

    def _found_nul(self) -> Corrupt:
        assert self._nul is not None
        line, offset = self._place(self._base + len(self._buffer))
        where = f"line {line} (byte {offset})"
        marks = self._base == 0 and self._buffer.startswith((b"\xff\xfe", b"\xfe\xff"))
        every_other = not any(self._nul[::2]) and len(self._nul) > 1 and all(self._nul[1::2])
        if marks or (offset < 2 and every_other):
            why = f"it is UTF-16 text, as PowerShell's > writes it, which no dump is (NUL byte in {where})"
            hint = 'Convert it with "iconv -f UTF-16 -t UTF-8", or choose another restore point.'
        elif not any(self._nul):
            why = f"it holds NUL bytes from {where} on, as a file does whose end was never written"
            hint = "Choose another restore point."
        else:
            why = f"it holds a NUL byte in {where}, which no dump does"
            hint = "The file is damaged, or not a plain dump: choose another restore point."
        return Corrupt(f"cannot read the dump: {why}", hint=hint, line=line, offset=offset)

    # Top level ----------------------------------------------------------------------------------------------------

    def tokens(self) -> Iterator[Token]:
        if self._has(len(_BOM)) and self._buffer.startswith(_BOM):
            self._pos = len(_BOM)
        while self._skip_space():
            self._start = self._pos
            byte = self._buffer[self._pos]
            if byte == 0x3B:  # ;
                self._pos += 1
            elif byte == 0x5C:  # \
                yield self._meta_command()
            elif (comment := self._comment()) is not None:
                yield comment
            else:
                line = self._line_at_start()
                word = self._first_word()
                text, offset = self._command(keywords=word == b"create")
                if word == b"copy" and (target := _copied_to(text)) is not None:
                    yield CopyStart(text, offset, line)
                    yield from self._rows(target, line, offset)
                else:
                    if word in (b"set", b"reset", b"discard"):
                        self._follow(text, line, offset)
                    yield Statement(text, offset, line)
        if self._nul is not None:
            self._start = len(self._buffer)
            raise self._found_nul()

    def _skip_space(self) -> bool:
        """Goes to the next byte that is no white space; False at the end of the text."""
        while True:
            match = _SPACE.match(self._buffer, self._pos)
            assert match is not None  # it matches nothing, too
            self._start = self._pos = match.end()
            if self._pos < len(self._buffer):
                return True
            if not self._more():
                return False

    def _comment(self) -> Comment | None:
        """The comment at ``pos``, if there is one."""
        if self._buffer[self._pos] not in b"-/" or not self._has(2):
            return None
        opening = self._cut(self._pos, self._pos + 2)
        line, offset = self._line_at_start(), self._base + self._pos
        if opening == b"--":
            self._to_line_end()
        elif opening == b"/*":
            self._block_comment()
        else:
            return None
        return Comment(self._cut(self._start, self._pos), offset, line)

    def _meta_command(self) -> MetaCommand:
        line, offset = self._line_at_start(), self._base + self._start
        while (end := self._buffer.find(b"\n", self._pos)) < 0:
            self._pos = len(self._buffer)
            if not self._more():
                end = len(self._buffer)
                break
        self._pos = end
        return MetaCommand(self._cut(self._start, end).rstrip(b" \t\r"), offset, line)

    def _follow(self, text: bytes, line: int, offset: int) -> None:
        """Takes note of settings that change how the text is to be read."""
        if (match := _CONFORMING.match(text)) is not None:
            value = (match["value"] or b"on").lower()
            self._escapes = value in (b"off", b"of", b"false", b"fals", b"fal", b"fa", b"f", b"no", b"n", b"0")
        elif (match := _ENCODING.match(text)) is not None:
            name = match[1].lower().replace(b"_", b"").replace(b"-", b"")
            if name in _UNREADABLE:
                raise BadPoint(
                    f"cannot read the dump: line {line} says that it is written in {match[1].decode('ascii')}, "
                    "where a backslash may be half of a character",
                    hint="Dump again with pg_dump --encoding=UTF8, or choose another restore point.",
                    line=line,
                    offset=offset,
                )

    # Inside a command ---------------------------------------------------------------------------------------------

    def _command(self, *, keywords: bool) -> tuple[bytes, int]:
        """The command at ``pos`` up to its semicolon, which is not part of its text, and its offset."""
        run = _RUNS[self._escapes, keywords]
        depth = 0  # of parentheses
        opened = 0  # the offset of the outermost
        body = 0  # depth of BEGIN ATOMIC, CASE … END
        began = -1  # the offset of the last BEGIN
        while True:
            match = run.match(self._buffer, self._pos)
            assert match is not None  # it matches nothing, too
            self._pos = pos = match.end()
            byte = self._buffer[pos] if pos < len(self._buffer) else -1
            if byte == 0x3B:  # ;
                self._pos += 1
                if depth == 0 and body == 0:
                    return self._cut(self._start, pos).rstrip(b" \t\n\r\f\v"), self._base + self._start
            elif byte == 0x28:  # (
                if depth == 0:
                    opened = self._base + pos
                depth += 1
                self._pos += 1
            elif byte == 0x29:  # )
                depth = max(depth - 1, 0)
                self._pos += 1
            elif keywords and byte >= 0x41 and (word := _BODY_WORD.match(self._buffer, pos)) is not None:
                self._pos = word.end()
                # Behind a period it is the name of a column.
                if depth == 0 and self._buffer[pos - 1] != 0x2E:
                    letter = byte | 0x20
                    if letter == 0x62 and body == 0:  # begin
                        began = self._base + pos
                    elif letter == 0x61:  # atomic
                        if began >= 0 and body == 0 and self._opens_body(began - self._base, pos):
                            body = 1
                    elif body and letter in b"ce":  # case, end
                        body += 1 if letter == 0x63 else -1
            elif byte == 0x5C:  # \
                line, offset = self._place(self._base + pos)
                raise Corrupt(
                    f"cannot read the dump: line {line} (byte {offset}) has a backslash in the middle of a command, "
                    f"which began at line {self._line}",
                    hint="The file is damaged, or was not written by pg_dump: choose another restore point.",
                    line=line,
                    offset=offset,
                )
            elif not self._step(byte):
                if depth:
                    raise self._cut_off("parentheses", opened)
                if body:
                    raise self._cut_off("the body of a function", began)
                raise self._cut_off("a command", self._base + self._start)

    def _first_word(self) -> bytes:
        while True:
            match = _WORD.match(self._buffer, self._pos)
            if match is None:
                return b""
            if match.end() < len(self._buffer) or not self._more():
                return match[0].lower()

    def _opens_body(self, begin: int, atomic: int) -> bool:
        """Whether the words at ``begin`` and ``atomic`` start the body of a function or procedure."""
        return (
            _ONLY_GAP.fullmatch(self._buffer, begin + len(b"BEGIN"), atomic) is not None
            and _ROUTINE.match(self._buffer, self._start) is not None
        )

    def _step(self, byte: int) -> bool:
        """Passes a token whose end is perhaps not in the buffer. False when the text ends before it can be told."""
        if (match := _STRING.match(self._buffer, self._pos)) is not None:
            opened = self._base + self._pos
            self._pos = match.end()
            plain = match[0] == b"'"
            if match[1] is not None or (plain and self._escapes):
                self._escaped_string(opened)
            else:
                self._find(b"'", "a string", opened)
            return True
        if byte == 0x22:  # "
            opened = self._base + self._pos
            self._pos += 1
            self._find(b'"', "a quoted identifier", opened)
            return True
        if byte == 0x24:  # $
            match = _DOLLAR.match(self._buffer, self._pos)
            assert match is not None  # it matches a single $, too
            if match[1] is not None:
                opened = self._base + self._pos
                self._pos = match.end()
                self._find(match[0], "a dollar-quoted string", opened)
                return True
            if match.end() < len(self._buffer):
                self._pos += 1
                return True
        elif byte in (0x2D, 0x2F) and self._pos + 1 < len(self._buffer):
            # The run passes operators: what is left are comments.
            if byte == 0x2D:
                self._to_line_end()
            else:
                self._block_comment()
            return True
        return self._more()

    def _find(self, needle: bytes, what: str, opened: int) -> None:
        """Goes behind the next ``needle``."""
        while (found := self._buffer.find(needle, self._pos)) < 0:
            self._pos = max(self._pos, len(self._buffer) - len(needle) + 1)
            if not self._more():
                raise self._cut_off(what, opened)
        self._pos = found + len(needle)

    def _escaped_string(self, opened: int) -> None:
        """Goes behind a string in which a backslash escapes, and behind those that continue it on further lines."""
        while True:
            match = _ESCAPED.match(self._buffer, self._pos)
            assert match is not None  # it matches nothing, too
            self._pos = match.end()
            if self._pos + 1 < len(self._buffer):
                # A quote that no other follows.
                self._pos += 1
                if not self._continued():
                    return
            elif not self._more():
                if self._pos < len(self._buffer) and self._buffer[self._pos] == 0x27:
                    self._pos += 1
                    return
                raise self._cut_off("a string", opened)

    def _continued(self) -> bool:
        """Goes behind a quote that continues the string just ended: one line end at least lies between."""
        while True:
            match = _SPACE_AND_COMMENTS.match(self._buffer, self._pos)
            assert match is not None  # it matches nothing, too
            end = match.end()
            if end < len(self._buffer) and not (
                self._buffer[end] == 0x2D and (end + 1 == len(self._buffer) or self._buffer[end + 1] == 0x2D)
            ):
                if self._buffer[end] == 0x27 and _LINE_END.search(self._buffer, self._pos, end) is not None:
                    self._pos = end + 1
                    return True
                return False
            if not self._more():
                return False

    def _to_line_end(self) -> None:
        while (match := _LINE_END.search(self._buffer, self._pos)) is None:
            self._pos = len(self._buffer)
            if not self._more():
                return
        self._pos = match.start()

    def _block_comment(self) -> None:
        opened = self._base + self._pos
        depth = 0
        while True:
            match = _COMMENT_MARK.search(self._buffer, self._pos)
            if match is None:
                # The last byte may be the first half of a mark.
                self._pos = max(self._pos, len(self._buffer) - 1)
                if not self._more():
                    raise self._cut_off("a comment", opened)
                continue
            self._pos = match.end()
            depth += 1 if match[0] == b"/*" else -1
            if depth == 0:
                return

    # Rows ---------------------------------------------------------------------------------------------------------

    def _rows(self, target: bytes, line: int, offset: int) -> Iterator[CopyData | CopyEnd]:
        """The rows behind a COPY command. ``start`` stays at the line end before the rows that were not given yet."""
        inside = f"the rows of COPY {_shown(target)}"
        self._start = self._pos
        self._line_at_start()

        def cut_off() -> BadPoint:
            if self._nul is not None:
                return self._found_nul()
            return Incomplete(
                f"cannot read the dump: it ends inside {inside}, which began at line {line} (byte {offset})",
                hint="The file was cut off, or its maker was stopped: choose another restore point.",
                line=line,
                offset=offset,
            )

        while (match := _BLANK_LINE.match(self._buffer, self._pos)) is None:
            if not self._more():
                raise cut_off()
        if match[1] != b"\n":
            raise Corrupt(
                f"cannot read the dump: text follows COPY {_shown(target)} FROM stdin on line {line} (byte {offset})",
                hint="The file is damaged, or was not written by pg_dump: choose another restore point.",
                line=line,
                offset=offset,
            )
        self._start = self._pos = match.end()
        while True:
            end = self._end_of_rows()
            last = end if end is not None else self._buffer.rfind(b"\n", self._pos)
            if last > self._start:
                self._line_at_start()
                data = self._cut(self._start + 1, last + 1)
                rows = data.count(b"\n")
                yield CopyData(data, rows, self._base + self._start + 1, self._line + 1)
                self._line += rows
                self._counted = self._start = last
            if end is not None:
                self._start += 1
                line_end = self._buffer.find(b"\n", self._start)
                self._pos = line_end + 1 if line_end >= 0 else len(self._buffer)
                yield CopyEnd(self._base + self._start, self._line_at_start())
                return
            self._pos = max(self._start, len(self._buffer) - 2)
            if not self._more():
                raise cut_off()

    def _end_of_rows(self) -> int | None:
        r"""The index of the line end before the line ``\.``; None if that line is not in the buffer."""
        while (found := self._buffer.find(b"\n\\.", self._pos)) >= 0:
            behind = found + 3
            if _COPY_END.match(self._buffer, behind) is not None:
                return found
            if len(self._buffer) - behind < 2:
                self._pos = found
                if self._more():
                    continue
                if self._cut(self._pos + 3, len(self._buffer)) in (b"", b"\r"):
                    return self._pos
                behind = self._pos + 3
            # A row that begins like the end: the server will say what it thinks of it.
            self._pos = behind
        return None


def _copied_to(text: bytes) -> bytes | None:
    """What a COPY command loads rows into that follow it, as it is written; None if no rows follow it."""
    depth = 0
    pos = len(b"copy")
    name_end = 0
    started = after_from = period = False
    while (match := _PIECE.match(text, pos)) is not None:
        pos = match.end()
        if match["gap"] is not None:
            continue
        if match[0] == b"/*":
            pos = _comment_end(text, match.start())
            continue
        word = match["word"].lower() if match["word"] is not None and not period else b""
        period = match[0] == b"."
        if after_from:
            # PostgreSQL takes either word for the client, whatever the direction.
            return text[len(b"copy") : name_end].strip() if word in (b"stdin", b"stdout") else None
        if match[0] == b"(":
            if not started:
                return None  # COPY (query) TO …
            name_end = name_end or match.start()
            depth += 1
        elif match[0] == b")":
            depth -= 1
        elif depth == 0 and word == b"to":
            return None
        elif depth == 0 and word == b"from":
            name_end = name_end or match.start()
            after_from = True
        started = True
    return None


def _comment_end(text: bytes, start: int) -> int:
    depth = 0
    for match in _COMMENT_MARK.finditer(text, start):
        depth += 1 if match[0] == b"/*" else -1
        if depth == 0:
            return match.end()
    return len(text)


def _shown(name: bytes) -> str:
    """A name from the dump for a message: one line, not too long."""
    text = name.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= _NAME_SHOWN else text[:_NAME_SHOWN] + "…"
