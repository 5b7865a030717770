"""The application as text: its hooks, its health, and the watch of the server."""

from __future__ import annotations

from lastgood.application.results import ApplicationReport, Figure, HealthResult, HookResult
from lastgood.errors import ChecksFailed
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units

# Characters of the last response of a health check; the JSON document and the journal have more.
BODY_SHOWN = 200
VERDICTS = {"same": "", "worse": "WORSE", "unknown": "unknown"}


def show(screen: Screen, report: ApplicationReport | None) -> None:
    """Print the hooks and checks, then the figures of the watch."""
    if report is None:
        return
    screen.heading("The application")
    screen.pairs(
        [
            *((f"{each.hook.replace('_', ' ').capitalize()}, {each.stage}", _hook(each)) for each in report.hooks),
            ("Health", _health(report.health)),
        ]
    )
    watch = report.watch
    if watch is None:
        return
    against = (
        f"compared with the {units.duration(watch.before_seconds)} before the run"
        if watch.before_seconds is not None
        else "without figures from before"
    )
    screen.heading(f"The server, watched for {units.duration(watch.seconds)} {against}")
    if watch.ended:
        screen.say(f"The watch {watch.ended}.", first="  ", indent=2)
    if watch.figures:
        columns = (
            TableColumn("figure", fold=True),
            TableColumn("before", right=True),
            TableColumn("after", right=True),
            TableColumn(""),
        )
        screen.table(
            columns,
            [
                (each.title, _value(each, each.before), _value(each, each.after), VERDICTS[each.verdict])
                for each in watch.figures
            ],
        )


def _hook(result: HookResult) -> str:
    outcome = "ok" if not result.problem else result.problem
    return f"{outcome}, {units.duration(result.seconds)}"


def _health(result: HealthResult | None) -> str:
    if result is None:
        return ""
    tries = f"{units.counted(result.tries, 'try', 'tries')}, {units.duration(result.seconds)}"
    if result.problem:
        body = " ".join(result.body.split())  # an HTML page would fill the screen
        response = f"; last response: {body[:BODY_SHOWN]}" if body else ""
        return f"{result.url}: {result.problem} ({tries}){response}"
    return f"{result.url} answered {result.status} ({tries})"


def _value(figure: Figure, value: float | None) -> str:
    if value is None:
        return "?"
    text = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"
    return f"{text} {figure.unit}" if figure.unit == "ms" else text + figure.unit


def failed(screen: Screen, error: ChecksFailed, live: str) -> None:
    """Print the failure and the meaning of each answer, then the question."""
    screen.say(
        f"The application does not work with the restored database: {error.problem}", style="bold red", stderr=True
    )
    what = "objects" if error.in_place else "database"
    undo = (
        f'the previous objects become live in "{live}" again; the restored ones are kept.'
        if error.in_place
        else f'the previous database becomes "{live}" again; the restored one is kept.'
    )
    screen.say(undo, first="  undo  ", indent=8, stderr=True)
    remain = "remain" if error.in_place else "remains"
    screen.say(
        f"the restored {what} {remain} in service. To undo later: lastgood undo {error.run}",
        first="  keep  ",
        indent=8,
        stderr=True,
    )
    screen.say('Type "undo" or "keep":', stderr=True, style="bold")
