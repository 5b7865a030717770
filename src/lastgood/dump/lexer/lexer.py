r"""The lexer: splits plain SQL of pg_dump, as bytes, into commands, comments and rows.

The rules are those of psql's lexer (src/fe_utils/psqlscan.l), so that a file is split exactly as in psql, with three
differences, all on the safe side:

- rows of ``COPY … FROM stdin`` are never read as SQL, regardless of the command's fate;
- psql reads the word BEGIN in a function's header as the start of its body, even if it is the function's name;
  here only BEGIN ATOMIC is one;
- a backslash in the middle of a command is an error instead of a psql command.

Memory is bounded by the longest command, which has a limit (see window.py), not by the size of the dump or of a row.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from lastgood.dump.files.row_index import RowIndex
from lastgood.dump.hints import CUT_OFF
from lastgood.dump.lexer import patterns
from lastgood.dump.lexer.tokens import (
    Comment,
    CopyData,
    CopyEnd,
    CopyPart,
    CopySpan,
    CopyStart,
    MetaCommand,
    Noise,
    Statement,
    Token,
)
from lastgood.dump.lexer.window import Window
from lastgood.errors import BadPoint, Corrupt, Incomplete

_BOM = b"\xef\xbb\xbf"
# Slightly more than the longest word that distinguishes SQL from noise.
_LONGEST_WORD = 16
_DAMAGED_HINT = "The file is damaged, or was not written by pg_dump: choose another restore point."
_ENCODING = re.compile(
    rb"(?i:set\s+(?:session\s+|local\s+)?(?:client_encoding\s*(?:=|\sto\s)|names)\s*'?([\w-]+)'?\s*\Z)"
)
# Client encodings in which a backslash may be the second half of a character, by all their names.
_AMBIGUOUS = frozenset(
    b"sjis shiftjis mskanji win932 windows932 shiftjis2004 big5 win950 windows950 gbk win936 windows936 uhc win949 "
    b"windows949 gb18030 johab".split()
)

# Rows at least this wide, on average, are counted faster by jumps between line ends than by a test of each byte; wider
# ones faster one by one. (Measured: 160, 70 and 400 ns for a row of 250 bytes.)
_MIDDLING = 100
_WIDE = 700

LONG = 1 << 23
"""Rows with more bytes than about this are returned in parts."""
ROW_LIMIT = (1 << 30) - 1
"""The maximum size of a row on any server (MaxAllocSize)."""


def tokens(chunks: Iterable[bytes], *, skim: bool = False) -> Iterator[Token]:
    r"""The tokens of a plain dump, in order. The division of the text into ``chunks`` only affects the boundaries
    between neighbouring ``CopyData``. With ``skim``, ``CopySpan`` replaces these.

    Offsets count from the first byte, including a UTF-8 byte order mark. The text of a command excludes its semicolon.
    Empty commands (a semicolon alone) are left out. A block of rows ends with a line that is exactly ``\.``, or ``\.``
    and a carriage return. standard_conforming_strings is on until the text turns it off. Messages of pg_dump and byte
    order marks are Noise between commands, but ordinary text inside commands and rows.

    Raises Incomplete when the text ends inside rows or a command (line and offset are those of the innermost open
    construct), and Corrupt for a NUL byte, for a backslash in the middle of a command and for text after ``COPY … FROM
    stdin;`` on its line. Earlier tokens are valid. Raises BadPoint for a client encoding in which a backslash may be
    part of a character.
    """
    return Lexer(chunks, skim=skim).tokens()


class Lexer(Window):
    """The lexer; see ``tokens``. ``start`` is the first byte of the current token.

    ``whole_rows``: return every row as a whole, up to ``limit``. ``index``: skip rows with a known position unread.
    ``ended`` may be set between two tokens, by the reader once the dump is complete: lines that do not look like SQL
    are then Noise.
    """

    def __init__(self, chunks: Iterable[bytes], *, skim: bool = False, index: RowIndex | None = None) -> None:
        super().__init__(chunks)
        self._index = index
        self.ended = False
        self.whole_rows = False
        self.skim = skim
        self._escapes = False  # standard_conforming_strings is off

    def restarted(self, text: bytes, line: int, behind: int) -> Lexer:
        """A lexer that continues with ``text``, which begins on ``line``, and then with the buffer from the index
        ``behind``. For damaged dumps, if this lexer consumed too much. Its offsets are approximate.
        """
        lexer = Lexer(itertools.chain([text, self.cut(behind, len(self.buffer))], self._chunks))
        lexer.whole_rows = self.whole_rows
        lexer.base, lexer._line, lexer._escapes = self.base + self.start, line, self._escapes
        return lexer

    def _cut_off(self, what: str, offset: int, line: int | None = None) -> BadPoint:
        """The error for a text that ends inside something that began at ``offset``."""
        if self.nul:
            return self.found_nul()
        line = self.line_of(offset) if line is None else line
        return Incomplete(
            f"cannot read the dump: it ends inside {what}, which began at line {line} (byte {offset})",
            hint=CUT_OFF,
            line=line,
            offset=offset,
        )

    # Top level ----------------------------------------------------------------------------------------------------

    def tokens(self) -> Iterator[Token]:
        if self.has(len(_BOM)) and self.buffer.startswith(_BOM):
            self.pos = len(_BOM)
        while True:
            while not self.ended and (match := patterns.SIMPLE[self._escapes].match(self.buffer, self.pos)) is not None:
                self.start = match.start(1)
                self.pos = match.end()
                yield Statement(match[1].rstrip(), self.base + self.start, self.line())
            if not self._skip_space():
                break
            byte = self.buffer[self.pos]
            if byte == 0x3B:  # ;
                self.pos += 1
            elif byte == 0x5C:  # \
                yield MetaCommand(*self._rest_of_line())
            elif self._mark():
                yield Noise(_BOM, self.base + self.start, self.line())
            elif byte in b"-/" and (comment := self._comment()) is not None:
                yield comment
            elif self._noise():
                yield Noise(*self._rest_of_line())
            else:
                word = self._first_word()
                line, text = self.line(), self._command(keywords=word == b"create")
                offset = self.base + self.start
                if word == b"copy" and (target := _copied_to(text)) is not None:
                    yield CopyStart(text, offset, line)
                    yield from self._rows(target, line, offset)
                else:
                    if word in (b"set", b"reset", b"discard"):
                        self._follow(text, line, offset)
                    yield Statement(text, offset, line)
        if self.nul:
            raise self.found_nul()

    def _skip_space(self) -> bool:
        """Set ``start`` and ``pos`` to the next byte that is not white space; False at the end of the text."""
        while True:
            match = patterns.SPACE.match(self.buffer, self.pos)
            assert match is not None  # it also matches an empty text
            self.start = self.pos = match.end()
            if self.pos < len(self.buffer):
                return True
            if not self.more():
                return False

    def _comment(self) -> Comment | None:
        """The comment at ``pos``, None without one."""
        opening = self.cut(self.pos, self.pos + 2) if self.has(2) else b""
        if opening == b"--":
            self._to_line_end()
        elif opening == b"/*":
            self._block_comment()
        else:
            return None
        return Comment(self.cut(self.start, self.pos), self.base + self.start, self.line())

    def _mark(self) -> bool:
        """Skip a byte order mark at ``pos``, which occurs where texts were concatenated."""
        if self.buffer[self.pos] != _BOM[0] or not self.has(len(_BOM)) or not self.buffer.startswith(_BOM, self.pos):
            return False
        self.pos += len(_BOM)
        return True

    def _noise(self) -> bool:
        """Whether the line at ``pos`` is not part of the dump."""
        if self.buffer[self.pos] == 0x70 or self.ended:  # p
            self.has(_LONGEST_WORD)
            message = patterns.MESSAGE.match(self.buffer, self.pos)
            return message is not None or (self.ended and patterns.SQL.match(self.buffer, self.pos) is None)
        return False

    def _rest_of_line(self) -> tuple[bytes, int, int]:
        """Skip to the end of the line; return the text, its offset and line."""
        while (end := self.buffer.find(b"\n", self.pos)) < 0:
            self.pos = len(self.buffer)
            if not self.more():
                end = len(self.buffer)
                break
        self.pos = end
        return self.cut(self.start, end).rstrip(), self.base + self.start, self.line()

    def _follow(self, text: bytes, line: int, offset: int) -> None:
        """Apply settings that change how the text is read."""
        if (match := patterns.CONFORMING.match(text)) is not None:
            self._escapes = (match["value"] or b"on").lower() in patterns.OFF
        elif (match := _ENCODING.match(text)) is not None and re.sub(rb"[_-]", b"", match[1].lower()) in _AMBIGUOUS:
            raise BadPoint(
                f"cannot read the dump: line {line} declares the encoding {match[1].decode('ascii')}, in which a "
                "backslash may be part of a character",
                hint="Dump again with pg_dump --encoding=UTF8, or choose another restore point.",
                line=line,
                offset=offset,
            )

    # Inside a command ---------------------------------------------------------------------------------------------

    def _first_word(self) -> bytes:
        """The word at ``pos``, in lower case."""
        while True:
            match = patterns.WORD.match(self.buffer, self.pos)
            if match is None:
                return b""
            if match.end() - match.start() > _LONGEST_WORD or match.end() < len(self.buffer) or not self.more():
                return match[0][: _LONGEST_WORD + 1].lower()

    def _command(self, *, keywords: bool) -> bytes:
        """The text of the command at ``pos``; ``pos`` is then after its semicolon."""
        run = patterns.RUNS[self._escapes, keywords]
        depth = 0  # of parentheses
        opened = 0  # the offset of the outermost
        body = 0  # depth of BEGIN ATOMIC … END and of CASE … END in it
        began = -1  # the offset of the last BEGIN
        while True:
            match = run.match(self.buffer, self.pos)
            assert match is not None  # it also matches an empty text
            self.pos = pos = match.end()
            byte = self.buffer[pos] if pos < len(self.buffer) else -1
            if byte == 0x3B:  # ;
                self.pos += 1
                if depth == 0 and body == 0:
                    return self.cut(self.start, pos).rstrip()
            elif byte == 0x28:  # (
                if depth == 0:
                    opened = self.base + pos
                depth += 1
                self.pos += 1
            elif byte == 0x29:  # )
                depth = max(depth - 1, 0)
                self.pos += 1
            elif byte == 0x5C:  # \
                offset = self.base + pos
                raise Corrupt(
                    f"cannot read the dump: line {self.line_of(offset)} (byte {offset}) has a backslash in the middle "
                    f"of a command, which began at line {self.line()}",
                    hint=_DAMAGED_HINT,
                    line=self.line_of(offset),
                    offset=offset,
                )
            elif keywords and (found := patterns.BODY_WORD.match(self.buffer, pos)) is not None:
                self.pos = found.end()
                word = found[0].lower()
                if depth or self.buffer[pos - 1] == 0x2E:
                    continue  # after a period it is the name of a column
                if word == b"begin" and body == 0:
                    began = self.base + pos
                elif word == b"atomic" and body == 0 and began >= 0:
                    body = int(self._opens_body(began - self.base, pos))
                elif word == b"case" and body:
                    body += 1
                elif word == b"end" and body:
                    body -= 1
            elif not self._step(byte):
                if depth:
                    raise self._cut_off("parentheses", opened)
                if body:
                    raise self._cut_off("the body of a function", began)
                raise self._cut_off("a command", self.base + self.start)

    def _opens_body(self, begin: int, atomic: int) -> bool:
        """Whether the words at ``begin`` and ``atomic`` begin the body of a function or procedure."""
        if _behind_gap(self.buffer, begin + len(b"begin")) != atomic:
            return False
        header: list[bytes] = []
        pos = self.start
        while len(header) < 4 and (match := patterns.WORD.match(self.buffer, pos)) is not None:
            header.append(match[0].lower())
            pos = _behind_gap(self.buffer, match.end())
        if header[1:3] == [b"or", b"replace"]:
            del header[1:3]
        return header[1:2] in ([b"function"], [b"procedure"])

    def _step(self, byte: int) -> bool:
        """Skip the token at ``pos`` whose end the run did not find. False when the text ends first."""
        if (string := patterns.STRING.match(self.buffer, self.pos)) is not None:
            opened = self.base + self.pos
            self.pos = string.end()
            if string[1] is not None or (self._escapes and string[0] == b"'"):
                self._escaped_string(opened)
            elif self._escapes:
                self._unescaped_string(opened, doubles=string[2] is not None)
            else:
                self._behind(b"'", "a string", opened)
            return True
        if byte == 0x22:  # "
            opened = self.base + self.pos
            self.pos += 1
            self._behind(b'"', "a quoted identifier", opened)
            return True
        if byte == 0x24:  # $
            dollar = patterns.DOLLAR.match(self.buffer, self.pos)
            assert dollar is not None  # it also matches a single $
            if dollar[1] is not None:
                opened = self.base + self.pos
                self.pos = dollar.end()
                self._behind(dollar[0], "a dollar-quoted string", opened)
                return True
            if dollar.end() < len(self.buffer):
                self.pos += 1
                return True
        elif byte in (0x2D, 0x2F) and self.pos + 1 < len(self.buffer):
            # The run skips operators: only comments are left.
            if byte == 0x2D:
                self._to_line_end()
            else:
                self._block_comment()
            return True
        return self.more()

    def _behind(self, needle: bytes, what: str, opened: int) -> None:
        """Set ``pos`` after the next ``needle``."""
        while (end := self.buffer.find(needle, self.pos)) < 0:
            self.pos = max(self.pos, len(self.buffer) - len(needle) + 1)
            if not self.more():
                raise self._cut_off(what, opened)
        self.pos = end + len(needle)

    def _escaped_string(self, opened: int) -> None:
        """Set ``pos`` after a string with backslash escapes and after its continuations."""
        while True:
            match = patterns.ESCAPED.match(self.buffer, self.pos)
            assert match is not None  # it also matches an empty text
            self.pos = match.end()
            # Now at the end of the buffer, before a backslash or quote that is its last byte, or before a single quote.
            if self.pos + 1 < len(self.buffer):
                self.pos += 1
                if not self._continued():
                    return
            elif not self.more():
                if self.buffer[self.pos :] != b"'":
                    raise self._cut_off("a string", opened)
                self.pos += 1
                return

    def _unescaped_string(self, opened: int, *, doubles: bool) -> None:
        """The same for a string without escapes. Only relevant if a continuation could be an ordinary string with
        escapes.

        ``doubles``: two quotes represent one.
        """
        while True:
            self._behind(b"'", "a string", opened)
            if doubles and self.has(1) and self.buffer[self.pos] == 0x27:
                self.pos += 1
            elif not self._continued():
                return

    def _continued(self) -> bool:
        """Whether a quote after a line end continues the string that just ended; ``pos`` is then after it."""
        while True:
            match = patterns.SPACE_AND_LINE_COMMENTS.match(self.buffer, self.pos)
            assert match is not None  # it also matches an empty text
            end = match.end()
            if self.cut(end, end + 2) not in (b"", b"-", b"--"):
                if self.buffer[end] != 0x27 or patterns.LINE_END.search(self.buffer, self.pos, end) is None:
                    return False
                self.pos = end + 1
                return True
            if not self.more():
                return False

    def _to_line_end(self) -> None:
        while (match := patterns.LINE_END.search(self.buffer, self.pos)) is None:
            self.pos = len(self.buffer)
            if not self.more():
                return
        self.pos = match.start()

    def _block_comment(self) -> None:
        opened = self.base + self.pos
        depth = 0
        while True:
            match = patterns.COMMENT_MARK.search(self.buffer, self.pos)
            if match is not None:
                self.pos = match.end()
                depth += 1 if match[0] == b"/*" else -1
                if depth == 0:
                    return
            else:
                # The last byte may be the first half of a mark.
                self.pos = max(self.pos, len(self.buffer) - 1)
                if not self.more():
                    raise self._cut_off("a comment", opened)

    # Rows ---------------------------------------------------------------------------------------------------------

    def _rows(self, target: bytes, line: int, offset: int) -> Iterator[CopyData | CopyPart | CopySpan | CopyEnd]:
        """The rows after a COPY command into ``target``, which began at ``line`` and ``offset``."""
        self.start = self.pos
        cut_off = f"the rows of COPY {_shown(target)}", offset, line
        while (rest := patterns.REST_OF_LINE.match(self.buffer, self.pos)) is None:
            if not self.more():
                raise self._cut_off(*cut_off)
        if rest[1] != b"\n":
            raise Corrupt(
                f"cannot read the dump: text follows COPY {_shown(target)} FROM stdin on line {line} (byte {offset})",
                hint=_DAMAGED_HINT,
                line=line,
                offset=offset,
            )
        # From here on, ``start`` is the line end before the rows that were not returned yet.
        self.start = self.pos = rest.end()
        if self._index is not None and (known := self._index.spans.get(self.base + self.start + 1)) is not None:
            begin, end_of_copy = self.base + self.start + 1, self.line()
            yield CopySpan(b"", known.size, known.rows, begin, end_of_copy + 1)
            self.jump(begin + known.size - 1, known.rows, self._index.text_from)
        width = 0
        while True:
            if width >= _WIDE:
                last, rows = self._wide_rows()
                if rows:
                    yield self._take(last, rows)
            end = self._end_of_rows()
            last = end if end is not None else self.buffer.rfind(b"\n", max(self.start, self.pos - 1))
            if last > self.start:
                rows = self._line_ends(last, width)
                width = (last - self.start) // rows
                yield self._take(last, rows)
            if end is not None:
                self.start += 1
                line_end = self.buffer.find(b"\n", self.start)
                self.pos = line_end + 1 if line_end >= 0 else len(self.buffer)
                yield CopyEnd(self.base + self.start, self.line())
                return
            self.pos = max(self.start, len(self.buffer) - 2)
            if len(self.buffer) - self.start > LONG and not self.whole_rows:
                yield from self._long_row(cut_off)
            elif not self.more():
                raise self._cut_off(*cut_off)

    def _long_row(self, cut_off: tuple[str, int, int]) -> Iterator[CopyPart | CopySpan]:
        """The row after the line end ``start``, whose own line end is not in the buffer; ``start`` is then that line
        end."""
        self.start += 1
        line, begun, size = self.line(), self.base + self.start, 0
        while True:
            end = self.buffer.find(b"\n", self.start) + 1
            last = end > 0
            part = self.cut(self.start, end if last else len(self.buffer))
            size += len(part)
            if size - last > ROW_LIMIT:
                raise Corrupt(
                    f"cannot read the dump: line {line} has more than 1 GB, which no server accepts in a row",
                    hint=_DAMAGED_HINT,
                    line=line,
                    offset=begun,
                )
            if not self.skim:
                yield CopyPart(part, last, self.base + self.start, line)
            elif last:
                yield CopySpan(b"", size, 1, begun, line)
            if last:
                self.start = self.pos = end - 1
                return
            self.start = self.pos = len(self.buffer)
            if not self.more():
                raise self._cut_off(*cut_off)

    def _line_ends(self, last: int, width: int) -> int:
        """The number of line ends between ``start`` and ``last``, with lines about ``width`` bytes long."""
        if width < _MIDDLING:
            return self.buffer.count(b"\n", self.start, last)
        # count() tests each byte; replace() jumps from match to match.
        text = self.cut(self.start, last)
        return len(text) - len(text.replace(b"\n", b""))

    def _take(self, last: int, rows: int) -> CopyData | CopySpan:
        """The rows up to the line end ``last``."""
        first, offset, line = self.start + 1, self.base + self.start + 1, self.line() + 1
        token: CopyData | CopySpan
        if self.skim:
            shown = self.cut(first, self.buffer.find(b"\n", first))
            token = CopySpan(shown, last + 1 - first, rows, offset, line)
        else:
            token = CopyData(self.cut(first, last + 1), rows, offset, line)
        self.advance(last, rows)
        self.pos = max(self.pos, last)
        return token

    def _wide_rows(self) -> tuple[int, int]:
        r"""The last line end, and the number of rows, from ``start`` up to a possible end of rows."""
        buffer = self.buffer
        limit = len(buffer) - 2
        find = buffer.find
        last = self.start
        rows = 0
        pos = max(self.start + 1, self.pos)  # the beginning of a very long row was searched before
        while (at := find(b"\n", pos, limit)) >= 0:
            last = at
            pos = at + 1
            rows += 1
            if buffer[at + 1] == 0x5C and buffer[at + 2] == 0x2E:
                break
        return last, rows

    def _end_of_rows(self) -> int | None:
        r"""The line end before the line ``\.``; None if that line is not in the buffer."""
        while (match := patterns.MAYBE_END_OF_ROWS.search(self.buffer, self.pos)) is not None:
            position = match.start()
            if patterns.END_OF_ROWS.match(self.buffer, position + 3) is not None:
                return position
            self.pos = position
            if len(self.buffer) - position < 5:
                if self.more():
                    continue
                if self.cut(self.pos + 3, len(self.buffer)) in (b"", b"\r"):
                    return self.pos
            # A row that only begins like the end: the server decides about it.
            self.pos += 1
        return None


def _copied_to(text: bytes) -> bytes | None:
    """The target of a COPY command as written; None if no rows follow the command."""
    depth = 0
    pos = first = _behind_gap(text, len(b"copy"))
    name_end = 0
    after_from = False
    previous = b""
    while (match := patterns.COPY_PIECE.match(text, pos)) is not None:
        word = (match[1] or b"").lower() if previous != b"." else b""
        if after_from:
            # PostgreSQL accepts either word for the client, in both directions.
            return text[first:name_end].rstrip() if word in (b"stdin", b"stdout") else None
        if (match[2] is not None and previous != b"uescape") or (match[0] == b"(" and pos == first):
            return None  # no string is allowed here; COPY (query) TO …
        if match[0] == b"(":
            name_end = name_end or pos
            depth += 1
        elif match[0] == b")":
            depth -= 1
        elif depth == 0 and word == b"to":
            return None
        elif depth == 0 and word == b"from":
            name_end = name_end or pos
            after_from = True
        previous = match[0].lower()
        pos = _behind_gap(text, match.end())
    return None


def _behind_gap(text: bytes | bytearray, pos: int) -> int:
    """The next index without white space or a comment."""
    while True:
        match = patterns.GAP.match(text, pos)
        assert match is not None  # it also matches an empty text
        pos = match.end()
        if not text.startswith(b"/*", pos):
            return pos
        depth = 0
        for mark in patterns.COMMENT_MARK.finditer(text, pos):
            depth += 1 if mark[0] == b"/*" else -1
            pos = mark.end()
            if depth == 0:
                break


def _shown(name: bytes) -> str:
    """A name from the dump for a message: on one line, truncated."""
    text = name.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= 120 else text[:120] + "…"
