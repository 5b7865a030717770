"""Writes docs/reference and the manual page from the code: ``python -m tools.reference [FOLDER]``.

A test compares what stands there with what this would write, so the reference can't fall behind.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from pydantic import BaseModel

from lastgood import config, errors
from lastgood.cli import application, examples
from lastgood.cli.application import app
from lastgood.command.check.check import CheckReport
from lastgood.command.deploy.deploy import DeployReport, TrialReport
from lastgood.command.diff.diff import DiffReport
from lastgood.command.drill.drill import Sealed
from lastgood.command.explain import case
from lastgood.command.explain.explain import Explained
from lastgood.command.explain.run import RunStory
from lastgood.command.guide.subject import GuideCheck, GuideReport
from lastgood.command.init.survey import InitSurvey
from lastgood.command.maintenance.maintenance import Maintenance
from lastgood.command.prune.plan import PrunePlan
from lastgood.command.recover.reinstate import ReinstateReport
from lastgood.command.recover.report import Diagnosis
from lastgood.command.report.report import RunRecord, Runs
from lastgood.command.validate.validate import ValidationVerdict
from lastgood.config import example
from lastgood.damaged.restore import DamagedReport
from lastgood.events import Phase
from lastgood.facts import Facts
from lastgood.facts.compare import FactsComparison
from lastgood.journal.past_runs import DrillDue
from lastgood.notifications import TargetList
from lastgood.plan.plan import Plan
from lastgood.plan.undo_plan import UndoPlan
from lastgood.restore import RestoreReport
from lastgood.run.report import FinishReport, Report
from lastgood.screen.progress import NAMES
from lastgood.status import Status
from lastgood.undo import UndoReport
from tools import manual

GENERATED = "<!-- Written by `python -m tools.reference`; do not edit. -->"
# Command → the document that it prints with --json.
DOCUMENTS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("rollback --dry-run", "the document itself", Plan),
    ("rollback, resume", "the document itself", Report),
    ("resume after the switch", "the document itself", FinishReport),
    ("deploy", "the document itself; of one that failed, under `error.deployment`", DeployReport),
    ("deploy --dry-run", "the document itself", TrialReport),
    ("check", "the document itself", CheckReport),
    ("undo --dry-run", "the document itself", UndoPlan),
    ("undo", "the document itself", UndoReport),
    (
        "recover",
        "under `diagnosis`, next to `report`: the result (Report, UndoReport, ReinstateReport), or null",
        Diagnosis,
    ),
    ("recover, of a database that was gone", "under `report`", ReinstateReport),
    ("restore", "the document itself", RestoreReport),
    ("restore --skip-damaged", "the document itself", DamagedReport),
    ("status", "the document itself", Status),
    ("maintenance, maintenance on, off, status", "the document itself", Maintenance),
    ("prune --dry-run", "the document itself", PrunePlan),
    ("facts", "under `facts`", Facts),
    ("facts A B, facts A --live", "next to `expected`, `found` (names) and `equal`", FactsComparison),
    ("diff", "the document itself", DiffReport),
    ("explain", "the document itself", Explained),
    ("explain RUN", "under `run`", RunStory),
    ("runs", "the document itself", Runs),
    ("report", "the document itself", RunRecord),
    ("validate", "the document itself", ValidationVerdict),
    (
        "drill, drill --all",
        "the document itself; `--show` and `--sign` add `folder`, `changed` (since it was written) and `remarks`; "
        "`--list` has a list of these under `drills`",
        Sealed,
    ),
    ("drill --due", "under `due`, next to `live`", DrillDue),
    ("guide", "the document itself", GuideReport),
    ("guide --check", "the document itself", GuideCheck),
    ("notify; under `notifications` of config check its `targets`", "the document itself", TargetList),
    ("init", "under `survey`, next to `file` and `password_left_out`", InitSurvey),
)

# Documents that are made of few fields.
SMALL: tuple[tuple[str, str], ...] = (
    (
        "backup",
        "`point`: a restore point as `points` describes it; `seconds` that it took; `removed`, by --prune.",
    ),
    (
        "points, points list",
        "`store`: the folder; `points`: a list, the newest first. Each has `name`, `path`, `kind`, `made_at`, "
        "`time_source`, `bytes`, `known` (it has a manifest), `emergency`, `problem`, `pinned` (why, or null); a known "
        "one also `database`, "
        "`label`, `form`, `sha256`, `rows`, `tables`, `migration`.",
    ),
    (
        "points verify",
        "`points`: a list of the same, each also with `verdict`, `valid`, `message`, `hint`, `notes`, `line` and "
        "`offset`.",
    ),
    (
        "abort",
        "`run`, `status`, `live`, `removed`: names of databases, and `application`: `started` again, `not stopped` by "
        "the run, or `unknown` where another machine has its journal.",
    ),
    (
        "points pin, unpin",
        "`point`: the same, and `pin`: `reason`, `by`, `host` and `at`, or null.",
    ),
    (
        "report --post-mortem, report --output",
        "`run`, and `file`: the path of what was written.",
    ),
    ("deploy --accept", "`run`, `status`: `accepted`, and `live`."),
    ("prune", "`live`, `status`, and `removed`: names of databases and files."),
)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _table(header: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + " --- |" * len(header)
    for row in rows:
        yield "| " + " | ".join(_cell(cell) for cell in row) + " |"
    yield ""


def commands() -> str:
    """docs/reference/commands.md."""
    root = typer.main.get_command(app)
    lines = ["# Commands", "", GENERATED, "", inspect.cleandoc(root.help or ""), "", "## Options of every command", ""]
    lines += ["They may stand before and after the command's name.", ""]
    own = {each.flags[0] for each in config.OPTIONS if each.is_global}
    lines += _table(
        ("option", "meaning", "variables"),
        (
            (
                f"`{', '.join(each.flags)}{' ' + each.metavar if each.metavar else ''}`",
                each.doc,
                ", ".join(f"`{variable}`" for variable in each.environment),
            )
            for each in config.OPTIONS
            if each.is_global
        ),
    )
    for name, each in _leaves(root, "lastgood"):
        statuses = (each.epilog or "").rpartition("EXIT STATUS\n  ")[2].partition(";")[0]
        shown = examples.section(name.removeprefix("lastgood "))
        lines += [f"## `{name}`", "", inspect.cleandoc(each.help or ""), ""]
        parameters = [p for p in each.params if not set(p.opts) & (own | {"--help"})]
        lines += _table(
            ("argument or option", "meaning"),
            ((f"`{_spelling(p)}`", getattr(p, "help", "") or "") for p in parameters),
        )
        lines += ["```", *(line.removeprefix("  ") for line in shown), "```", ""]
        lines += [f"Exit status: {statuses} ([their meanings](exit-status.md)).", ""]
    return "\n".join(lines)


def _leaves(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    for each in group.list_commands(None):
        found = group.commands[each]
        if hasattr(found, "commands"):
            yield from _leaves(found, f"{name} {each}")
        else:
            yield f"{name} {each}", found


def _spelling(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper()) + ("…" if parameter.nargs != 1 else "")
    metavar = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
    return ", ".join(parameter.opts) + metavar


def configuration() -> str:
    """docs/reference/configuration.md."""
    lines = ["# Configuration", "", GENERATED, ""]
    lines += [
        "An option's value is the first one given by: the command line, its variables in their order, "
        f"`{config.FILE_NAME}`, its default.",
        f"`{config.FILE_NAME}` is looked for in the current folder and then in those above it; `lastgood init` writes "
        "one. Relative folders in it start where the file lies. It may not hold a password, and a key that is not in "
        "this table is an error.",
        "",
        "Without any database named, libpq decides: `PGHOST`, `PGDATABASE`, `PGSERVICE`, `~/.pgpass` and so on.",
        "",
    ]
    lines += _table(
        ("option", "key in the file", "variables", "default", "meaning"),
        (
            (
                f"`{', '.join(each.flags)}`",
                f"`{each.name}`" if each.in_file else "",
                ", ".join(f"`{variable}`" for variable in each.environment),
                each.default_text,
                each.doc + (f" One of: {', '.join(each.choices)}." if each.choices else ""),
            )
            for each in config.OPTIONS
        ),
    )
    lines += [
        "## Tables of the file",
        "",
        "What surrounds a rollback, and is too long for a command line. [A whole example](../configuration.md) is on a "
        "page of its own; `lastgood config example` prints one, `lastgood config check` lists the errors in a "
        "file, and `lastgood config schema` prints the JSON Schema.",
        "",
        "A length of time is a number of seconds, or a text like `30s`, `5min`, `24h` or `90d`; a size is a number of "
        "bytes, or a text like `500MB` or `2GB`.",
        "",
    ]
    for name, model, many in example.tables():
        lines += [f"### `[[{name}]]`" if many else f"### `[{name}]`", "", _doc(model), ""]
        if many:
            lines += ["There may be several.", ""]
        lines += _table(("key", "what it is", "default", "meaning"), _keys(model))
    return "\n".join(lines)


def _keys(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    for key, each in example.model_fields(model).items():
        if not example.is_table(each):
            default = example.default_of(each)
            shown = "" if default in (None, (), {}) else f"`{example.written(default)}`"
            yield f"`{key}`", example.kind(each), "required" if each.is_required() else shown, each.description or ""


def statuses() -> str:
    """docs/reference/exit-status.md."""
    lines = ["# Exit status", "", GENERATED, ""]
    lines += _table(("status", "meaning"), ((f"`{n}`", text) for n, text in sorted(application.MEANINGS.items())))
    lines += [
        "`lastgood status` ends with 7 when a run is unfinished. With `--json`, a refusal is an `error` document; an "
        "answer is the document of the command. `lastgood recover` ends with a refusal when its proposal must be "
        "carried out by hand.",
        "",
        "## Errors",
        "",
        'With `--json` an error is one document on stdout: `{"format": 1, "error": {"code", "message", '
        '"hint", "state", "exit_status"}}`; `line` and `offset` are added for a bad restore point; `run` and '
        "`application` (an ApplicationReport) where the application's checks failed after the switch, and `undo` (an "
        "UndoReport) where that was undone. The codes:",
        "",
    ]
    lines += _table(
        ("code", "status", "meaning"),
        ((f"`{each.code}`", f"`{each.exit_status}`", _first(each)) for each in _errors(errors.LastgoodError)),
    )
    return "\n".join(lines)


def _errors(root: type[errors.LastgoodError]) -> Iterator[type[errors.LastgoodError]]:
    yield root
    for each in sorted(root.__subclasses__(), key=lambda each: (each.exit_status, each.code)):
        yield from _errors(each)


def _first(thing: Any) -> str:
    if thing is errors.LastgoodError:
        return application.MEANINGS[thing.exit_status]
    return _doc(thing).split("\n\n")[0]


def json() -> str:
    """docs/reference/json.md."""
    lines = ["# JSON", "", GENERATED, ""]
    lines += [
        "With `--json` a command prints one document on stdout, at its end. `format` is 1 and is raised when a field "
        "changes its meaning; new fields may come at any time. Events are lines on stderr.",
        "",
    ]
    seen: dict[type, None] = {}
    for command, place, model in DOCUMENTS:
        lines += [f"## `{command}`", "", f"[{model.__name__}](#{model.__name__.lower()}), {place}.", ""]
        _collect(model, seen)
    for command, fields in SMALL:
        lines += [f"## `{command}`", "", fields, ""]
    lines += ["## Types", ""]
    for model in seen:
        lines += [f"### {model.__name__}", "", _doc(model), ""]
        lines += _table(("field", "type"), _fields(model))
    lines += ["## Events", "", "One JSON object a line on stderr, with `format` and `event`.", ""]
    for name, kind in [*((f"`{name}`", kind) for kind, name in NAMES.items()), (Phase.__name__, Phase)]:
        lines += [f"### {name}", "", _doc(kind), ""]
        lines += _table(("field", "type"), ((f"`{f.name}`", f"`{f.type}`") for f in dataclasses.fields(kind)))
    return "\n".join(lines)


def _doc(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").replace("``", "`")


def _fields(model: type) -> Iterator[tuple[str, str]]:
    assert issubclass(model, BaseModel)
    for name, field in model.model_fields.items():
        yield f"`{field.serialization_alias or name}`", f"`{_type(field.annotation)}`"


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(each) for each in arguments)
    if origin is typing.Literal:
        return " or ".join(repr(each).replace("'", '"') for each in arguments)
    if origin in (tuple, list):
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"object of {_type(arguments[1])}"
    names = {datetime: "time (ISO 8601)", str: "text", int: "integer", float: "number", bool: "true or false"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _collect(model: type, seen: dict[type, None]) -> None:
    if not (inspect.isclass(model) and issubclass(model, BaseModel)) or model in seen:
        return
    seen[model] = None
    for field in model.model_fields.values():
        for each in _parts(field.annotation):
            _collect(each, seen)


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for each in get_args(annotation):
        yield from _parts(each)


def known() -> str:
    """docs/reference/known-errors.md."""
    cases = sorted(case.library().cases.values(), key=lambda each: each.title)
    lines = ["# Known errors", "", GENERATED, ""]
    lines += [
        f"What `lastgood explain` knows: {len(cases)} errors of PostgreSQL and its programs, of poolers and platforms. "
        "Paste yours to it, and it finds the right one, in twelve languages.",
        "",
    ]
    for each in cases:
        lines += [f"## {each.title}", ""]
        states = [*each.sqlstates, *each.sqlstates_with_text]
        recognised = [*(f"`{text}`" for text in each.messages), *(f"SQLSTATE `{state}`" for state in states)]
        lines += [*(f"- {text}" for text in recognised), *([""] if recognised else [])]
        parts = (("Cause", each.cause), ("The data", each.data), ("lastgood", each.lastgood))
        for heading, text in parts:
            lines += [f"**{heading}.** {_prose(text)}", ""]
        lines += ["```", *each.commands, "```", ""] if each.commands else []
    return "\n".join(lines)


def _prose(text: str) -> str:
    """Sentences as they are, whatever they hold: a name in them is no tag of HTML."""
    return text.strip().replace("<", "&lt;").replace("*", "\\*")


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "configuration.md": configuration,
    "exit-status.md": statuses,
    "json.md": json,
    "known-errors.md": known,
}


def write(folder: Path) -> None:
    """Writes every page into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page().rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference"))
    if len(sys.argv) == 1:
        manual.write()
