"""A page of the documentation as a test reads it: its blocks, their commands, and the expected output.

How a block declares its type, invisible to readers:

- ``sh``: commands, run in their order. ``# … exit status 3`` after one is its status if not 0.
- ``text``: what the ``sh`` block before it prints, line by line: lines may be left out, numbers and times may differ,
  and ``…`` stands for anything.
- Any language with ``title="FILE"``: that file, written before what comes next. In a workflow of GitHub or GitLab, a
  systemd unit and a crontab the commands are run as well.
- ``<!-- not run: WHY -->`` before a block: it is not run, for that reason. A test has the list of them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from os.path import expandvars
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^( *)```(\w*) *(.*)$")
_NOT_RUN = re.compile(r"^ *<!-- not run: (.+) -->$")
_TITLE = re.compile(r'title="([^"]+)"')
_STATUS = re.compile(r"#.*\bexit status (\d+)")
# What changes from run to run: hexadecimal names, numbers with their units.
_NAME = r"(?<![0-9a-z])[0-9a-f]{8,32}(?![0-9a-z])"
_NUMBER = r"\d[\d.,:]*(?: (?:ms|s|min|bytes|kB|MB|GB)\b)?"
_HEREDOC = re.compile(r"<<-?'?(\w+)'?")


@dataclass(frozen=True)
class Block:
    """One block between fences. ``title``: its file name; ``not_run``: why it is not run."""

    page: str
    line: int
    language: str
    title: str
    text: str
    not_run: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> list[Command]:
        """What a reader would run of it, in its order."""
        if self.not_run:
            return []
        if self.language == "sh":
            return [Command(f"{self.page}:{self.line + at}", text) for at, text in _lines(self.text)]
        return [Command(str(self), text) for text in _within(self)]

    def calls(self) -> list[tuple[str, ...]]:
        """The arguments of each call of lastgood in it."""
        return [command.call.arguments for command in self.commands() if command.call is not None]


@dataclass(frozen=True)
class Command:
    """One command line, with its comment, its continuation lines and what is fed to it."""

    place: str
    text: str

    @property
    def status(self) -> int:
        """The exit status that the page promises."""
        found = _STATUS.search(self.text.partition("\n")[0])
        return int(found[1]) if found else 0

    @property
    def call(self) -> Call | None:
        """It as a call of lastgood; None of what needs a shell."""
        reader = shlex.shlex(self.text, posix=True, punctuation_chars=True)
        reader.whitespace_split = True
        words = list(reader)
        given, into = "", ""
        if words[:1] == ["cat"] and words[2:3] == ["|"]:
            given, words = words[1], words[3:]
        if words[-2:-1] == [">"]:
            into, words = words[-1], words[:-2]
        if words[:1] != ["lastgood"] or "$(" in self.text or "`" in self.text:
            return None
        return None if any(set(word) <= set("();<>|&") for word in words) else Call(_expanded(words[1:]), given, into)


def _expanded(words: list[str]) -> tuple[str, ...]:
    """With variables replaced by their values, and patterns by the files that they fit where there are any."""
    words = [expandvars(word) for word in words]
    return tuple(
        each for word in words for each in (sorted(map(str, Path().glob(word))) if "*" in word else []) or [word]
    )


@dataclass(frozen=True)
class Call:
    """``cat GIVEN | lastgood ARGUMENTS > INTO``; the files are "" where there are none."""

    arguments: tuple[str, ...]
    given: str
    into: str


def blocks(page: str) -> list[Block]:
    """The blocks of a page, named by its path from the root of the project. Raises AssertionError for an open one."""
    found: list[Block] = []
    opened: tuple[int, re.Match[str]] | None = None
    not_run, text = "", list[str]()
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is not None:
            start, (indent, language, rest) = opened[0], opened[1].groups()
            if line.strip() == "```":
                title = _TITLE.search(rest)
                body = "".join(f"{each.removeprefix(indent)}\n" for each in text)
                found.append(Block(page, start, language, title[1] if title else "", body, not_run))
                opened, text, not_run = None, [], ""
            else:
                text.append(line)
        elif fence:
            opened = (number, fence)
        elif reason := _NOT_RUN.match(line):
            not_run = reason[1]
        elif line.strip():
            not_run = ""
    assert opened is None, f"{page}: a block is not closed"
    return found


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The commands of a shell script and their line numbers, from 1; comments by themselves are none."""
    lines = list(enumerate(text.splitlines(), 1))
    while lines:
        start, command = lines.pop(0)
        if not command.strip() or command.lstrip().startswith("#"):
            continue
        while command.endswith("\\"):
            command += "\n" + lines.pop(0)[1]
        if end := _HEREDOC.search(command):
            while True:
                command += "\n" + lines[0][1]
                if lines.pop(0)[1].strip() == end[1]:
                    break
        yield start, command


def _within(block: Block) -> Iterator[str]:
    """The commands in files that programs of the platform run."""
    if block.title.startswith(".github/workflows/"):
        for job in yaml.safe_load(block.text)["jobs"].values():
            for step in job["steps"]:
                yield from _scripted(step.get("run", ""), {**job.get("env", {}), **step.get("env", {})})
    elif block.title == ".gitlab-ci.yml":
        document: dict[str, Any] = yaml.safe_load(block.text)
        for job in document.values():
            if isinstance(job, dict) and "script" in job:
                yield from _scripted("\n".join(job["script"]), job.get("variables", {}))
    elif block.title.endswith(".service"):
        yield from re.findall(r"(?m)^ExecStart=(.*)$", block.text)
    elif block.title == "crontab":
        for line in block.text.splitlines():
            if fields := re.match(r"(?:@\w+|(?:[\d*/,-]+ +){5}) *(.*)$", line):
                yield fields[1]


def _scripted(script: str, environment: dict[str, str]) -> Iterator[str]:
    if not script:
        return
    for name, value in environment.items():
        if not value.startswith("${{") and not value.startswith("$"):  # secrets are the stage's to set
            yield f"export {name}={shlex.quote(str(value))}"
    for _, command in _lines(script):
        yield command


def unlike(expected: str, printed: str) -> str:
    """The first line of ``expected`` that is not, in its order, among those ``printed``; "" when all are."""
    lines = iter([" ".join(line.split()) for line in printed.splitlines()])
    for line in filter(None, (" ".join(each.split()) for each in expected.splitlines())):
        if line == "…":
            continue
        pattern = re.compile(_pattern(line))
        if not any(pattern.fullmatch(each) for each in lines):
            return line
    return ""


def _pattern(line: str) -> str:
    parts = re.split(rf"(…|{_NAME}|{_NUMBER})", line)
    rest = iter(parts)
    pattern = ""
    for part in rest:
        pattern += re.escape(part)
        kind = next(rest, None)
        if kind is not None:
            pattern += ".*" if kind == "…" else _NAME if re.fullmatch(_NAME, kind) else _NUMBER
    return pattern
