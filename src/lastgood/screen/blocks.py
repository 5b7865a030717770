"""A document in blocks, rendered on a terminal and as Markdown from one source.

Texts in it are plain; their content is escaped in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lastgood.screen import markdown
from lastgood.screen.screen import Screen, TableColumn


@dataclass(frozen=True, slots=True)
class CodeText:
    """A command or a name, rendered as code."""

    text: str


Cell = str | CodeText


@dataclass(frozen=True, slots=True)
class Title:
    """The title of the document; ``level`` 2 begins a section."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """Names and values; those without a value are left out."""

    pairs: Sequence[tuple[str, Cell]]


@dataclass(frozen=True, slots=True)
class TableBlock:
    """A table. On a terminal it ends after ``most`` rows with a note on the rest."""

    columns: Sequence[TableColumn]
    rows: Sequence[Sequence[Cell]]
    most: int = 1000


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: Sequence[Cell]


@dataclass(frozen=True, slots=True)
class TaskList:
    """A task list."""

    items: Sequence[tuple[bool, str]]


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A placeholder for a person to fill in; Markdown only."""

    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture in a file next to the document; not on a terminal."""

    file: str
    alt: str


Block = Title | Paragraph | Pairs | TableBlock | Items | TaskList | Placeholder | Picture


def as_markdown(blocks: Iterable[Block]) -> str:
    """Render the document as Markdown."""
    return markdown.document(*(_markdown(block) for block in with_content(blocks)))


def with_content(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the blocks that have content, and the titles of sections that are not empty."""
    waiting: Title | None = None
    for block in blocks:
        if isinstance(block, Title) and block.level > 1:
            waiting = block
        elif not _is_empty(block):
            if waiting is not None:
                yield waiting
            waiting = None
            yield block


def _is_empty(block: Block) -> bool:
    match block:
        case Paragraph(text):
            return not text.strip()
        case Pairs(pairs):
            return not any(_text(value) for _, value in pairs)
        case TableBlock(rows=rows):
            return not rows
        case Items(items) | TaskList(items):
            return not items
        case _:
            return False


def _markdown(block: Block) -> str:
    match block:
        case Title(text, level):
            return f"{'#' * level} {markdown.text(text)}"
        case Paragraph(text):
            return "\n\n".join(markdown.text(line) for line in text.splitlines() if line.strip())
        case Pairs(pairs):
            return markdown.table(
                ("", ""), [(markdown.text(name), _cell(value)) for name, value in pairs if _text(value)]
            )
        case TableBlock(columns, rows):
            right = [place for place, column in enumerate(columns) if column.right]
            titles = [markdown.text(column.title) for column in columns]
            return markdown.table(titles, [[_cell(cell) for cell in row] for row in rows], right=right)
        case Items(items):
            return markdown.bullets(_cell(item) for item in items)
        case TaskList(items):
            return markdown.tasks((done, markdown.text(text)) for done, text in items)
        case Placeholder(text):
            return f"*{markdown.text(text)}*"
        case Picture(file, called):
            return f"![{markdown.text(called)}]({file})"


def _cell(cell: Cell) -> str:
    return markdown.code(cell.text) if isinstance(cell, CodeText) else markdown.text(cell)


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, CodeText) else cell


def show(screen: Screen, blocks: Iterable[Block]) -> None:
    """Print the document on a terminal."""
    for block in with_content(block for block in blocks if not isinstance(block, Placeholder | Picture)):
        match block:
            case Title(text, level) if level > 1:
                screen.heading(markdown.one_line(text))
            case Title(text) | Paragraph(text):
                style = "bold" if isinstance(block, Title) else ""
                indent = 0 if isinstance(block, Title) else 2
                screen.say(text, first=" " * indent, indent=indent, style=style)
            case Pairs(pairs):
                screen.pairs((name, markdown.one_line(_text(value))) for name, value in pairs)
            case TableBlock(columns, rows, most):
                screen.table(columns, [[markdown.one_line(_text(cell)) for cell in row] for row in rows[:most]])
                if len(rows) > most:
                    screen.say(f"and {len(rows) - most} more; --format markdown has all of them", first="  ", indent=2)
            case Items(items):
                for item in items:
                    screen.say(markdown.one_line(_text(item)), first="  - ", indent=4)
            case TaskList(items):
                for done, text in items:
                    screen.say(markdown.one_line(text), first="  [x] " if done else "  [ ] ", indent=6)
            case Placeholder() | Picture():
                pass
