"""The text of an explanation: the state of the database, the decisive error, the next commands."""

from __future__ import annotations

from collections.abc import Sequence

from lastgood.command.explain.explain import ErrorKind, Explained
from lastgood.command.explain.run import RunStory
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units

# Kinds that are explained in full. The others have one line each; --json has all of them.
IN_FULL = 1
_OUTCOMES = {
    "done": "done",
    "reverted": "failed, changes reverted",
    "aborted": "aborted",
    "undone": "failed and undone",
    "failed": "failed",
    "stopped": "not finished",
    "switched": "switched, not finished",
    "unknown": "unknown",
}


def show(screen: Screen, explained: Explained) -> None:
    """Print the verdict, the decisive error in full, then the others."""
    if not explained.kinds:
        lines = units.counted(explained.lines, "line")
        screen.say(f"No error was found in {explained.source} ({lines}).", style="bold")
        screen.say(
            "If a command failed nevertheless, give the error itself, or the server's log of that time. For English "
            "messages with their SQLSTATE: LC_MESSAGES=C psql -v VERBOSITY=verbose"
        )
        return
    several = len(explained.kinds) > 1 or explained.errors > 1
    if several:
        kinds = units.counted(len(explained.kinds), "kind")
        screen.say(f"{units.counted(explained.errors, 'error')} of {kinds} in {explained.source}.", style="bold")
    if explained.verdict is not None:
        screen.out.print()
        screen.say(explained.verdict.text, style="bold")
        _commands(screen, explained.verdict.commands)
    if several:
        screen.heading("The decisive error")
    for kind in explained.kinds[:IN_FULL]:
        _in_full(screen, kind, several)
    real = [kind for kind in explained.kinds[IN_FULL:] if kind.follows is None and not kind.minor]
    if real:
        screen.heading("Other errors")
        for kind in real:
            _short(screen, kind)
            screen.say(kind.cause, first="    ", indent=4)
            _commands(screen, kind.commands[:1])
    _table(screen, "Consequences", [kind for kind in explained.kinds[IN_FULL:] if kind.follows and not kind.minor])
    _table(screen, "Harmless messages", [kind for kind in explained.kinds[IN_FULL:] if kind.minor])


def _in_full(screen: Screen, kind: ErrorKind, several: bool) -> None:
    if kind.message:
        place = f"line {kind.line}: " if several else ""
        screen.say(f"{place}{kind.message}", first="  ", indent=4)
    state = f" (SQLSTATE {kind.sqlstate})" if kind.sqlstate else ""
    times = f", {units.number(kind.count)} times" if kind.count > 1 else ""
    screen.say(f"{kind.title}{state}{times}", first="  ", indent=4, style="bold")
    place = f"row {units.number(kind.row or 0)} of the COPY of {kind.table}" if kind.table else ""
    screen.pairs(
        (
            ("Where", place),
            ("Command", kind.statement),
            ("Cause", kind.cause),
            ("Data", kind.data),
            ("lastgood", kind.lastgood),
        )
    )
    _commands(screen, kind.commands)


def _short(screen: Screen, kind: ErrorKind) -> None:
    times = f", {units.number(kind.count)} times" if kind.count > 1 else ""
    screen.say(f"line {kind.line}: {kind.message or kind.sqlstate}", first="  ", indent=4)
    screen.say(f"{kind.title}{times}", first="    ", indent=4, style="bold")


def _table(screen: Screen, heading: str, kinds: Sequence[ErrorKind]) -> None:
    if not kinds:
        return
    screen.heading(heading)
    rows = [(str(kind.line), units.number(kind.count), kind.title) for kind in kinds]
    screen.table(
        (TableColumn("line", right=True), TableColumn("times", right=True), TableColumn("what", fold=True)), rows
    )


def _commands(screen: Screen, commands: Sequence[str]) -> None:
    for command in commands:
        screen.say(command, first="    ", indent=6)


def show_run(screen: Screen, story: RunStory) -> None:
    """Print the state, the next commands, the reason of the failure and the steps."""
    screen.say(f"{story.kind.capitalize()} {story.run}: {_OUTCOMES[story.outcome]}", style="bold")
    screen.say(story.state)
    _commands(screen, story.commands)
    if story.reason:
        titles = [each.title for each in story.steps if each.name in story.failed_in]
        screen.heading("Cause")
        screen.pairs((("In", "; ".join(titles)),))
        screen.say(story.reason, first="  ", indent=2)
        if story.explained is not None and story.explained.recognised:
            for kind in story.explained.kinds[:1]:
                screen.say(kind.title, first="  ", indent=4, style="bold")
                screen.pairs((("Cause", kind.cause), ("Next", "; ".join(kind.commands[:1]))))
    screen.heading("Steps")
    screen.pairs((("Database", story.live), ("Point", story.point), ("Journal", story.journal)))
    rows = [(f"{each.at:%Y-%m-%d %H:%M:%S} UTC", each.state, each.title) for each in story.steps]
    screen.table((TableColumn("when"), TableColumn("state"), TableColumn("step", fold=True)), rows)
