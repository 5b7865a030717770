"""The Typer application, and the decorator that registers a function as a command.

Global options come from the registry in config.py, and are accepted before and after the command's name:
``lastgood --db URL status`` is the same as ``lastgood status --db URL``.

The table of exit statuses is the source of the help of every command and of the reference.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from lastgood import __version__, config, errors
from lastgood.cli.call import Call
from lastgood.cli.commands import ALSO_CALLED, COMMANDS, MODULES, ORDER
from lastgood.cli.examples import section as examples_of
from lastgood.errors import SHOW_STATE, UNKNOWN_STATE, Interrupted, UsageError

if TYPE_CHECKING:
    from lastgood.cli.session import Session


class _Command(TyperCommand):
    """A command that converts only the parameters that are given, and shows its arguments as a manual page does."""

    def get_params(self, ctx: Any) -> Any:
        return _light(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [_usage(each) for each in super().collect_usage_pieces(ctx)]


class _Group(TyperGroup):
    """A group that converts only the parameters that are given."""

    def get_params(self, ctx: Any) -> Any:
        return _light(super().get_params(ctx))


def _usage(piece: str) -> str:
    """``POINT...`` instead of ``{POINT}...``; no dots after what has several words or brackets of its own."""
    words = piece.removesuffix("...")
    if words.startswith("{"):
        return piece.replace("{", "").replace("}", "")
    if words.startswith("[[") or " " in words:
        return words.replace("[[", "[").replace("]]", "]") if words.startswith("[[") else words
    return piece


def _light(parameters: Iterable[Any]) -> Any:
    """Defer the conversion of parameters. Typer loads pydantic and builds a validator for each parameter, which takes a
    tenth of a second and is too slow for completion."""
    for each in parameters:
        if not isinstance(each.process_value, partial):
            each.process_value = partial(_processed, each, each.process_value)
        if each.param_type_name == "argument":
            each.display_type_rich = _no_type  # "POINT", not "POINT <str>"
    return parameters


def _no_type(ctx: Any) -> str:
    return ""


def _processed(parameter: Any, convert: Callable[[Any, Any], Any], ctx: Any, value: Any) -> Any:
    if ctx.resilient_parsing:  # completion uses the text as typed
        return value
    if value is not None or parameter.required:
        return convert(ctx, value)
    return () if parameter.multiple or parameter.nargs != 1 else None


class _Commands(Mapping[str, Any]):
    """The commands by name, in the order of help; each is imported on first use."""

    def __getitem__(self, name: str) -> Any:
        import_module(MODULES[name])
        return typer.main.get_command(_declared[name])

    def __iter__(self) -> Iterator[str]:
        return iter(ORDER)

    def __len__(self) -> int:
        return len(ORDER)

    def __contains__(self, name: object) -> bool:
        return name in MODULES


class _Lazy(_Group):
    """Lists commands from the table, and imports only the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": _Commands()})
        self._listed: dict[str, TyperCommand] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        return list(ORDER)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return self._listed.get(cmd_name) or super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and (meant := ALSO_CALLED.get(args[0])) is not None:
            raise errors.UsageError(
                f'cannot run this command: no such command "{args[0]}"',
                hint=f"Run: lastgood {meant}; `lastgood --help` lists all commands.",
                state=config.NOTHING_READ,
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, ORDER))
        for title, commands in groupby(COMMANDS, key=attrgetter("group")):
            with formatter.section(title):
                # Padded, so that the summaries of all groups begin in one column.
                formatter.write_dl([(f"{each.name:{width}}", each.summary) for each in commands])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        with self._only_listed():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _only_listed(self) -> Iterator[None]:
        """Provide only names and summaries, without importing commands."""
        self._listed = {each.name: TyperCommand(each.name, short_help=each.summary) for each in COMMANDS}
        try:
            yield
        finally:
            self._listed = {}


def _unchanged(text: str) -> str:
    return text


# Typer would load rich at each key press to remove its markup from summaries, which have none. The module is private:
# without it, completion is slower and otherwise the same.
with suppress(ImportError):
    vars(import_module("typer._completion_classes"))["_sanitize_help_text"] = _unchanged
START = "Start with `lastgood init`, then `lastgood backup`."
EMERGENCY = "In an emergency: `lastgood recover`. It asks before it changes anything."
# The Typer applications declared by command modules, by name.
_declared: dict[str, typer.Typer] = {}
app = typer.Typer(
    name="lastgood",
    cls=_Lazy,
    help="Roll a PostgreSQL database back to its last good state.",
    epilog=f"\b\n{START}\n{EMERGENCY}",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)


def _from_registry(each: config.Option) -> inspect.Parameter:
    """Create a parameter for Typer. None means "not given"; config.py then resolves the value."""
    doc = each.doc
    # Sizes are parsed by config.py, whatever their source.
    given_as = str if each.type is int else each.type
    if each.choices:
        doc += f" One of: {', '.join(each.choices)}."
    if each.environment:
        doc += f" [{', '.join(each.environment)}]"
    return inspect.Parameter(
        each.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            given_as | None,
            typer.Option(
                *each.flags,
                help=doc,
                metavar=each.metavar or None,
                autocompletion=_among(each.choices) if each.choices else None,
            ),
        ],
    )


def _among(choices: Sequence[str]) -> Callable[[str], list[str]]:
    return lambda incomplete: [each for each in choices if each.startswith(incomplete)]


def _with_signature(function: Callable[..., Any], own: list[inspect.Parameter], doc: str | None) -> None:
    """Set the signature that Typer reads: ``ctx``, ``own`` and the global options."""
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *own, *(_from_registry(each) for each in config.OPTIONS if each.is_global)]
    # Typer reads signatures and annotations, not decorators.
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typeshed omits it
    function.__annotations__ = {each.name: each.annotation for each in parameters}
    function.__doc__ = doc


def _parameters(function: Callable[..., int | None]) -> list[inspect.Parameter]:
    """The parameters of a command after the session. A dataclass of options stands for its fields."""
    found = []
    for each in _own(function):
        if is_dataclass(each.annotation):
            hints = get_type_hints(each.annotation, include_extras=True)
            found += [
                each.replace(name=one.name, annotation=hints[one.name], default=one.default)
                for one in fields(each.annotation)
            ]
        else:
            found.append(each)
    return [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in found]


def _own(function: Callable[..., int | None]) -> list[inspect.Parameter]:
    # The session is loaded only to run a command; here its type is only a name.
    _, *own = inspect.signature(function, locals={"Session": None}, eval_str=True).parameters.values()
    return own


def _arguments(function: Callable[..., int | None], values: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a command, with the fields of a dataclass in one object. The default of a group gets its options
    only; its other parameters keep their defaults."""
    found = {}
    for each in _own(function):
        if is_dataclass(each.annotation):
            kind: Any = each.annotation
            found[each.name] = kind(**{one.name: values[one.name] for one in fields(kind) if one.name in values})
        elif each.name in values:
            found[each.name] = values[each.name]
    return found


def command(
    name: str, *statuses: int, options: tuple[str, ...] = (), into: typer.Typer | None = None
) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Register a function as a command. Its first parameter is the Session, the others are Typer's.

    ``statuses``: its exit statuses apart from 0, 1, 2 and 130. ``options``: its options from the registry, apart from
    the global ones; their values are in the session's settings. Options of several commands are a dataclass, with an
    Annotated field for each. The function returns an exit status, or None for 0.

    Help and completion import a command's module, so the module only declares it. The function imports the logic.
    """

    words = name if into is None else f"{into.info.name} {name}"

    def register(function: Callable[..., int | None]) -> Callable[..., int | None]:
        def invoke(ctx: typer.Context, **values: Any) -> int | None:
            return _run(ctx, words, function, values)

        parameters = _parameters(function) + [_from_registry(config.option(each)) for each in options]
        _with_signature(invoke, parameters, function.__doc__)
        summary = (function.__doc__ or "").partition("\n")[0].rstrip(".")
        place = into
        if place is None:
            place = _declared[name] = typer.Typer(
                add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
            )
        place.command(name, cls=_Command, short_help=summary, epilog=epilog(words, statuses))(invoke)
        return function

    return register


def group(name: str, doc: str, default: Callable[..., int | None], *exits: int) -> typer.Typer:
    """Create a command with subcommands. Without a subcommand it calls ``default``, which may end with ``exits``; its
    options are options of the group."""
    options = [
        each
        for each in _parameters(default)
        if any(isinstance(part, typer.models.OptionInfo) for part in get_args(each.annotation))
    ]
    short = doc.partition("\n")[0].partition(". ")[0].rstrip(".")
    made = _declared[name] = typer.Typer(
        name=name,
        cls=_Group,
        help=doc,
        short_help=short,
        epilog=epilog(name, exits),
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )

    def callback(ctx: typer.Context, **values: Any) -> int | None:
        if ctx.invoked_subcommand is None:
            return _run(ctx, name, default, values)
        given = {each.name: values.pop(each.name) for each in options}
        if any(given.values()):
            raise UsageError(
                f'cannot use these options before "{ctx.invoked_subcommand}"',
                hint=f"Give them after it: lastgood {name} {ctx.invoked_subcommand} --help shows its options",
                state=config.NOTHING_READ,
            )
        _remember(ctx, values)
        return None

    _with_signature(callback, options, None)
    made.callback(invoke_without_command=True)(callback)
    return made


def _run(ctx: typer.Context, words: str, function: Callable[..., int | None], values: dict[str, Any]) -> int | None:
    from lastgood.cli import combinations  # here, because help and completion need none of them

    combinations.refuse(words, combinations.given_in(ctx))
    session = _remember(ctx, values).session
    try:
        session.settle()
        return function(session, **_arguments(function, values))
    except (KeyboardInterrupt, EOFError):  # Typer would print an empty line
        raise Interrupted("interrupted", hint=SHOW_STATE, state=UNKNOWN_STATE) from None


def _remember(ctx: typer.Context, values: dict[str, Any]) -> Call:
    """Move the global options from ``values`` to the call."""
    call = ctx.find_object(Call)
    assert call is not None, "main() creates one"
    for each in config.OPTIONS:
        if (given := values.pop(each.name, None)) is not None:
            call.given[each.name] = given
    return call


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lastgood {__version__}")
        raise typer.Exit


def _root(ctx: typer.Context, **values: Any) -> None:
    call = _remember(ctx, values)
    if ctx.invoked_subcommand is not None:
        return
    if sys.stdin.isatty() and sys.stdout.isatty():
        # An operator who types the bare name may be looking for the way out of an emergency.
        status = import_module(MODULES["status"]).glance(call.session)
        if status is not None:
            raise typer.Exit(status)
        typer.echo(_brief(call.session))
    else:
        typer.echo(ctx.get_help())


def _brief(session: Session) -> str:
    """Return what fits on a terminal of 24 lines: the commands for an emergency, and the names of the others. Where no
    database is named, what names one comes before all else that could be said."""
    lines = [f"lastgood {__version__}: {app.info.help}"]
    width = max(map(len, ORDER))
    for title, commands in groupby(COMMANDS, key=attrgetter("group")):
        if title == COMMANDS[0].group:
            lines += ["", f"{title}:", *(f"  {each.name:{width}}  {each.summary}" for each in commands), ""]
        else:
            lines.append(f"{title + ':':17} {', '.join(each.name for each in commands)}")
    from lastgood.config import nearby  # here, because `--help` of a command does not need it

    found = nearby.databases(Path.cwd()) if not session.names_a_database else []
    start = ["No database is named.", *found] if found else [START]
    return "\n".join([*lines, "", *start, EMERGENCY, "All commands and options: lastgood --help"])


_with_signature(
    _root,
    [
        inspect.Parameter(
            "version",
            inspect.Parameter.KEYWORD_ONLY,
            default=False,
            annotation=Annotated[
                bool, typer.Option("--version", "-V", is_eager=True, callback=_show_version, help="Show the version.")
            ],
        ),
    ],
    None,
)
app.callback(invoke_without_command=True)(_root)


MEANINGS: dict[int, str] = {
    0: "done",
    errors.LastgoodError.exit_status: "a defect in lastgood; the report names the state of the database",
    errors.UsageError.exit_status: "wrong usage or configuration",
    errors.Refused.exit_status: "refused before anything changed; or the answer is no: the sides differ (diff, facts), "
    "NO-GO (check, validate), overdue (drill --due), out of date (guide --check), unknown (explain)",
    errors.BadPoint.exit_status: "the restore point is missing, incomplete, corrupt or unsafe",
    errors.Failed.exit_status: "failed; the live database is as it was, and open",
    errors.ChecksFailedAfterSwap.exit_status: "a switch or a deployment failed its checks, and was undone",
    errors.Stopped.exit_status: "unfinished: `lastgood status` shows how to continue",
    errors.Interrupted.exit_status: "interrupted by the user; any changes were reverted",
}
ALWAYS = (0, 1, 2, 130)


def statuses_of(statuses: Iterable[int]) -> list[int]:
    """Return the exit statuses of a command: ``statuses``, and those of every command."""
    return sorted({*ALWAYS, *statuses})


def epilog(name: str, statuses: tuple[int, ...]) -> str:
    """Return the end of a command's help: three examples, and its exit statuses."""
    *others, last = map(str, statuses_of(statuses))
    lines = ["\b", "EXAMPLES", *examples_of(name), "", "\b", "EXIT STATUS"]
    return "\n".join([*lines, f"  {', '.join(others)} or {last}; their meanings: lastgood help exit-status"])
