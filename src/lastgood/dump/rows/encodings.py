"""Check of a dump's bytes against its declared encoding. No text is converted."""

from __future__ import annotations

import codecs

ANY_BYTES = "SQL_ASCII"
"""The encoding of databases whose server stores any bytes."""

# PostgreSQL's names of encodings → Python's codecs. With SQL_ASCII, commands and their names must be UTF-8; rows may
# have any bytes.
_CODECS = {
    "UTF8": "utf-8",
    "UNICODE": "utf-8",
    "SQL_ASCII": "utf-8",
    "EUC_CN": "gb2312",
    "EUC_JIS_2004": "euc_jis_2004",
    "EUC_JP": "euc_jp",
    "EUC_KR": "euc_kr",
    "ISO_8859_5": "iso8859-5",
    "ISO_8859_6": "iso8859-6",
    "ISO_8859_7": "iso8859-7",
    "ISO_8859_8": "iso8859-8",
    "KOI8R": "koi8-r",
    "KOI8U": "koi8-u",
    **{
        f"LATIN{n}": f"iso8859-{part}"
        for n, part in zip(range(1, 11), (1, 2, 3, 4, 9, 10, 13, 14, 15, 16), strict=True)
    },
    **{f"WIN{page}": f"cp{page}" for page in (866, 874, *range(1250, 1259))},
}


def codec(encoding: str) -> str | None:
    """Python's codec for one of PostgreSQL's encodings, in normal form; None if a dump in it can't be read.

    These are the encodings whose characters may contain a backslash byte (SJIS, BIG5, GBK, UHC, GB18030, JOHAB): no
    server stores them, only ``pg_dump --encoding`` writes such a file.
    """
    name = encoding.upper().replace("-", "").replace(" ", "")
    name_of_codec = _CODECS.get(name) or _CODECS.get(encoding.upper())
    return codecs.lookup(name_of_codec).name if name_of_codec else None


def first_bad_byte(data: bytes, name: str) -> int | None:
    """The first position where ``data`` is not valid in the codec ``name``; None if it is valid. ASCII costs almost
    nothing."""
    if data.isascii():
        return None
    try:
        data.decode(name)
    except UnicodeDecodeError as error:
        return error.start
    return None
