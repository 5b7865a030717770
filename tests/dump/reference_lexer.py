"""A second lexer, written for clarity alone: the whole text in memory, one token at a time, as in psqlscan.l.

It is what the real one is compared with. ``reference(text)`` gives tokens as (kind, text, offset), with the rows of a
block in one piece, and how it ended: "" or "incomplete", "nul", "backslash", "text follows".
"""

from __future__ import annotations

import re

Piece = tuple[str, bytes, int]

_SPACE = re.compile(rb"[ \t\n\r\f\v]+")
_LINE_COMMENT = re.compile(rb"--[^\n\r]*")
_WORD = re.compile(rb"[A-Za-z_\x80-\xff][A-Za-z_\x80-\xff0-9$]*")
_JUNK = re.compile(rb"\$?[0-9]+([A-Za-z_\x80-\xff][A-Za-z_\x80-\xff0-9$]*)?")
_PREFIX = re.compile(rb"([eE]|[bBxX]|[uU]&)?'")
_DOLLAR = re.compile(rb"\$([A-Za-z_\x80-\xff][A-Za-z_\x80-\xff0-9]*)?\$")
_CONTINUED = re.compile(rb"(?:[ \t\f\v]|--[^\n\r]*)*[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*[\n\r])*'")


class Stop(Exception):
    """The text can't be read further."""


def _string_end(text: bytes, at: int, escapes: bool, doubles: bool) -> int:
    while at < len(text):
        if (escapes and text[at : at + 1] == b"\\") or (doubles and text[at : at + 2] == b"''"):
            at += 2
        elif text[at : at + 1] == b"'":
            at += 1
            continued = _CONTINUED.match(text, at)
            if continued is None:
                return at
            at = continued.end()
        else:
            at += 1
    raise Stop("incomplete")


def _token(text: bytes, at: int, escapes: bool) -> tuple[str, int]:
    """The kind and the end of the token at ``at``."""
    if match := _SPACE.match(text, at):
        return "space", match.end()
    if match := _LINE_COMMENT.match(text, at):
        return "comment", match.end()
    if text.startswith(b"/*", at):
        depth, end = 1, at + 2
        while depth:
            if end >= len(text):
                raise Stop("incomplete")
            mark = text[end : end + 2]
            depth += {b"/*": 1, b"*/": -1}.get(mark, 0)
            end += 2 if mark in (b"/*", b"*/") else 1
        return "comment", end
    if match := _PREFIX.match(text, at):
        prefix = (match[1] or b"").lower()
        return "string", _string_end(
            text, match.end(), prefix == b"e" or (prefix == b"" and escapes), prefix not in (b"b", b"x")
        )
    if match := _WORD.match(text, at):
        return "word", match.end()
    if match := _JUNK.match(text, at):
        return "number", match.end()
    if text.startswith(b'"', at):
        end = text.find(b'"', at + 1)
        while text[end : end + 2] == b'""':
            end = text.find(b'"', end + 2)
        if end < 0:
            raise Stop("incomplete")
        return "quoted", end + 1
    if match := _DOLLAR.match(text, at):
        end = text.find(match[0], match.end())
        if end < 0:
            raise Stop("incomplete")
        return "string", end + len(match[0])
    return text[at : at + 1].decode("latin-1"), at + 1


def reference(text: bytes) -> tuple[list[Piece], str]:
    nul = text.find(b"\0")
    found: list[Piece] = []
    try:
        _split(text if nul < 0 else text[:nul], found)
    except Stop as stop:
        how = str(stop)
        return found, "nul" if nul >= 0 and how == "incomplete" else how
    return found, "nul" if nul >= 0 else ""


def _split(text: bytes, found: list[Piece]) -> None:
    escapes = False
    at = 3 if text.startswith(b"\xef\xbb\xbf") else 0
    while at < len(text):
        kind, end = (";", at + 1) if text[at : at + 1] in (b";", b"\\") else _token(text, at, escapes)
        if text[at : at + 1] == b"\\":
            end = text.find(b"\n", at)
            end = len(text) if end < 0 else end
            found.append(("meta", text[at:end].rstrip(), at))
        elif kind == "comment":
            found.append(("comment", text[at:end], at))
        elif text.startswith(b"\xef\xbb\xbf", at):
            found.append(("noise", text[at : at + 3], at))
            end = at + 3
        elif kind not in ("space", ";"):
            end, words = _command_end(text, at, escapes)
            command = text[at : end - 1].rstrip()
            if _rows_follow(words):
                found.append(("copy", command, at))
                end = _rows(text, end, found)
            else:
                found.append(("command", command, at))
                lower = [word.lower() for _, word in words]
                if lower[:2] == [b"set", b"standard_conforming_strings"] and len(lower) == 4:
                    escapes = lower[3].strip(b"'") == b"off"
        at = end


def _command_end(text: bytes, at: int, escapes: bool) -> tuple[int, list[tuple[str, bytes]]]:
    """Where the command at ``at`` ends, behind its semicolon, and its tokens without space and comments."""
    words: list[tuple[str, bytes]] = []
    depth = body = 0
    while at < len(text):
        kind, end = _token(text, at, escapes)
        if kind not in ("space", "comment"):
            word = text[at:end].lower() if kind == "word" and (not words or words[-1][1] != b".") else b""
            if kind == "\\":
                raise Stop("backslash")
            if kind == "(":
                depth += 1
            elif kind == ")":
                depth = max(0, depth - 1)
            elif kind == ";" and depth == 0 and body == 0:
                return end, words
            elif depth == 0 and body and word in (b"case", b"end"):
                body += 1 if word == b"case" else -1
            elif depth == 0 and body == 0 and word == b"atomic" and words and words[-1][1].lower() == b"begin":
                header = [other.lower() if other_kind == "word" else b"" for other_kind, other in words[:4]]
                if header[1:3] == [b"or", b"replace"]:
                    del header[1:3]
                body = int(header[0] == b"create" and header[1] in (b"function", b"procedure"))
            words.append((kind, text[at:end]))
        at = end
    raise Stop("incomplete")


def _rows_follow(words: list[tuple[str, bytes]]) -> bool:
    lower = [word.lower() if kind == "word" else word for kind, word in words]
    if lower[0] != b"copy" or words[1:2] == [("(", b"(")]:
        return False
    depth = 0
    for number in range(1, len(words)):
        kind, word = words[number]
        escape = len(word) == 3 and lower[number - 1] == b"uescape"
        if kind not in ("word", "quoted", ".", ",", "(", ")", "&") and not (kind == "string" and escape):
            return False
        depth += {"(": 1, ")": -1}.get(words[number][0], 0)
        if (
            depth == 0
            and words[number][0] == "word"
            and lower[number - 1] != b"."
            and lower[number] in (b"from", b"to")
        ):
            return (
                lower[number] == b"from"
                and words[number + 1 : number + 2] != []
                and words[number + 1][0] == "word"
                and lower[number + 1] in (b"stdin", b"stdout")
            )
    return False


def _rows(text: bytes, at: int, found: list[Piece]) -> int:
    line_end = text.find(b"\n", at)
    rest = text[at : line_end if line_end >= 0 else len(text)]
    if rest.strip(b" \t\f\v\r"):
        raise Stop("text follows")
    if line_end < 0:
        raise Stop("incomplete")
    start = at = line_end + 1
    while True:
        end = text.find(b"\n", at)
        line = text[at : end if end >= 0 else len(text)]
        if line in (b"\\.", b"\\.\r"):
            if at > start:
                found.append(("rows", text[start:at], start))
            found.append(("end", b"", at))
            return end + 1 if end >= 0 else len(text)
        if end < 0:
            if at > start:
                found.append(("rows", text[start:at], start))
            raise Stop("incomplete")
        at = end + 1
