"""The rows of one COPY of a dump: converted to pg_dump's format, checked, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lastgood.dump.entries import Entry, RowPart, Rows, RowsEnd, RowsStart, Skimmed
from lastgood.dump.lexer.tokens import CopyData, CopyEnd, CopyPart, CopySpan
from lastgood.dump.names import shown
from lastgood.dump.rows import encodings
from lastgood.dump.rows.checks import LongRow, check_encoding, check_rows
from lastgood.dump.rows.copy_form import Converter, CopyForm
from lastgood.errors import Corrupt


class CopySection:
    """A section of rows; its input is the tokens after the COPY in their order, up to its CopyEnd.

    ``start`` is the entry that begins the section, ``rows`` the number of rows returned so far. ``encoding`` is the
    server's name of the text's encoding, ``codec`` Python's. ``form``: the format of the rows, None for pg_dump's own.
    """

    def __init__(self, start: RowsStart, form: CopyForm | None, *, encoding: str, codec: str) -> None:
        self._converter = Converter(form) if form is not None and not form.usual else None
        self.start = replace(start, in_place=self._converter is None)
        self.rows = 0
        self._encoding = encoding
        self._codec = codec
        self._long: LongRow | None = None

    @property
    def converts(self) -> bool:
        """Whether rows are converted, for which each is needed as a whole."""
        return self._converter is not None

    def converted(self, token: CopyData) -> CopyData:
        """The rows in pg_dump's format."""
        if self._converter is None:
            return token
        rows = self._converter.rows(token.data)
        return replace(token, data=b"".join(row + b"\n" for row in rows), rows=len(rows))

    def take(self, token: CopyData | CopyPart | CopySpan) -> Iterator[Entry]:
        """The entries of the next token. Raises Corrupt at a row that the table can't have."""
        match token:
            case CopyData():
                token = self.converted(token)
                if token.rows:
                    if self._encoding != encodings.ANY_BYTES:
                        check_encoding(token.data, token.offset, token.line, encoding=self._encoding, codec=self._codec)
                    check_rows(self.start, token)
                    self.rows += token.rows
                    yield Rows(token.data, token.rows, token.offset, token.line)
            case CopyPart():
                if self._long is None:
                    self._long = LongRow(self.start, encoding=self._encoding, codec=self._codec)
                self._long.add(token)
                yield RowPart(token.data, token.last, token.offset, token.line)
                if token.last:
                    self.rows += 1
                    self._long = None
            case CopySpan():
                self.rows += token.rows
                yield Skimmed(token.first, token.size, token.rows, token.offset, token.line)

    def end(self, token: CopyEnd) -> RowsEnd:
        """The entry that ends the section. Raises Corrupt within a quoted value."""
        if self._converter is not None and self._converter.open:
            raise Corrupt(
                f"cannot use the dump: the rows of {shown(self.start.relation)} end within a quoted value, at line "
                f"{token.line}",
                hint="The file is damaged, or other text was written into it.",
                line=token.line,
                offset=token.offset,
            )
        return RowsEnd(self.rows)
