"""The Typer application, and the decorator that makes a command of a function.

Options that every command takes are made from the registry in config.py, and are accepted before and after the
command's name: ``lastgood --db URL status`` and ``lastgood status --db URL`` are the same.

What each exit status means: the help of every command and the reference are made from this table.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from lastgood import __version__, config, errors
from lastgood.cli.call import Call
from lastgood.cli.commands import COMMANDS, MODULES, ORDER
from lastgood.errors import UNKNOWN_STATE, Interrupted

if TYPE_CHECKING:
    from lastgood.cli.session import Session


class _Command(TyperCommand):
    """A command that converts only the parameters that are given."""

    def get_params(self, ctx: Any) -> Any:
        return _light(super().get_params(ctx))


class _Group(TyperGroup):
    """The same of a group."""

    def get_params(self, ctx: Any) -> Any:
        return _light(super().get_params(ctx))


def _light(parameters: Iterable[Any]) -> Any:
    """The same parameters. Typer loads pydantic and builds a validator for each of them, given or not: longer than a
    key press may take, and a tenth of a second of every command."""
    for each in parameters:
        if not isinstance(each.process_value, partial):
            each.process_value = partial(_processed, each, each.process_value)
    return parameters


def _processed(parameter: Any, convert: Callable[[Any, Any], Any], ctx: Any, value: Any) -> Any:
    if ctx.resilient_parsing:  # completion: as it was typed
        return value
    left_out = value is None and not parameter.required and parameter.nargs == 1 and not parameter.multiple
    return None if left_out else convert(ctx, value)


class _Commands(Mapping[str, Any]):
    """The commands by name, in the order of help; each is imported when it is asked for."""

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

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with self._only_listed():
            super().format_commands(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        with self._only_listed():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _only_listed(self) -> Iterator[None]:
        """Names and summaries are all that is wanted of commands."""
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
# What the modules of commands have declared, by name.
_declared: dict[str, typer.Typer] = {}
app = typer.Typer(
    name="lastgood",
    cls=_Lazy,
    help="Puts a PostgreSQL database back to its last good state: plan, proof, swap, undo.",
    epilog="Start with `lastgood init`, then `lastgood backup`. In an emergency: `lastgood rollback --dry-run`.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)


def _from_registry(each: config.Option) -> inspect.Parameter:
    """A parameter for Typer; None means "not given": who gives it then is for config.py to find out."""
    doc = each.doc
    # What a size may look like is for config.py to say, wherever it was written.
    given_as = str if each.type is int else each.type
    if each.choices:
        doc += f" One of: {', '.join(each.choices)}."
    if each.environment:
        doc += f" [{', '.join(each.environment)}]"
    return inspect.Parameter(
        each.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[given_as | None, typer.Option(*each.flags, help=doc, metavar=each.metavar or None)],
    )


def _with_signature(function: Callable[..., Any], own: list[inspect.Parameter], doc: str | None) -> None:
    """Makes Typer see the parameters ``ctx``, ``own`` and the global options."""
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *own, *(_from_registry(each) for each in config.OPTIONS if each.is_global)]
    # What Typer reads: it knows nothing of decorators, only of signatures and annotations.
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typeshed omits it
    function.__annotations__ = {each.name: each.annotation for each in parameters}
    function.__doc__ = doc


def command(
    name: str, *statuses: int, options: tuple[str, ...] = (), into: typer.Typer | None = None
) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Registers a function as a command. Its first parameter is the Session, the others are Typer's.

    ``statuses`` are the exit statuses that it may end with besides 0, 1, 2 and 130; ``options`` those of the
    registry that it takes besides the global ones. It finds their values in the session's settings. It returns an
    exit status, or None for 0.

    A command's module declares: help and completion import it. What the command does, its function imports.
    """

    def register(function: Callable[..., int | None]) -> Callable[..., int | None]:
        # Only who runs a command loads the session: here its type is just a name.
        _, *own = inspect.signature(function, locals={"Session": None}, eval_str=True).parameters.values()

        def invoke(ctx: typer.Context, **values: Any) -> int | None:
            return _run(ctx, function, values)

        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        parameters += [_from_registry(config.option(each)) for each in options]
        _with_signature(invoke, parameters, function.__doc__)
        summary = (function.__doc__ or "").partition("\n")[0].rstrip(".")
        place = into
        if place is None:
            place = _declared[name] = typer.Typer(
                add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
            )
        place.command(name, cls=_Command, short_help=summary, epilog=section(statuses))(invoke)
        return function

    return register


def group(name: str, doc: str, default: Callable[[Session], int | None]) -> typer.Typer:
    """A command that has commands of its own; without one of them it does what ``default`` does."""
    short = doc.partition("\n")[0].partition(". ")[0].rstrip(".")
    made = _declared[name] = typer.Typer(
        name=name,
        cls=_Group,
        help=doc,
        short_help=short,
        epilog=section(()),
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )

    def callback(ctx: typer.Context, **values: Any) -> int | None:
        if ctx.invoked_subcommand is None:
            return _run(ctx, default, values)
        _remember(ctx, values)
        return None

    _with_signature(callback, [], None)
    made.callback(invoke_without_command=True)(callback)
    return made


def _run(ctx: typer.Context, function: Callable[..., int | None], values: dict[str, Any]) -> int | None:
    session = _remember(ctx, values).session
    try:
        session.settle()
        return function(session, **values)
    except (KeyboardInterrupt, EOFError):  # of which Typer would make an empty line
        raise Interrupted("interrupted", state=UNKNOWN_STATE) from None


def _remember(ctx: typer.Context, values: dict[str, Any]) -> Call:
    """Takes what belongs to the settings out of ``values``."""
    call = ctx.find_object(Call)
    assert call is not None, "main() makes one"
    for each in config.OPTIONS:
        if (given := values.pop(each.name, None)) is not None:
            call.given[each.name] = given
    return call


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lastgood {__version__}")
        raise typer.Exit


def _root(ctx: typer.Context, **values: Any) -> None:
    _remember(ctx, values)
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


_with_signature(
    _root,
    [
        inspect.Parameter(
            "version",
            inspect.Parameter.KEYWORD_ONLY,
            default=False,
            annotation=Annotated[
                bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
            ],
        ),
    ],
    None,
)
app.callback(invoke_without_command=True)(_root)


MEANINGS: dict[int, str] = {
    0: "done",
    errors.LastgoodError.exit_status: "a defect in lastgood; the report says in what state the database is",
    errors.UsageError.exit_status: "wrong usage or configuration",
    errors.Refused.exit_status: "refused before anything changed: a check failed, or not confirmed",
    errors.BadPoint.exit_status: "the restore point is missing, incomplete, corrupt or unsafe",
    errors.Failed.exit_status: "failed; the live database is as it was, and open",
    errors.ChecksFailedAfterSwap.exit_status: "a switch or a deployment failed its checks, and was undone",
    errors.Stopped.exit_status: "stopped in between: `lastgood status` shows how to continue",
    errors.Interrupted.exit_status: "interrupted by the user, walked back",
}
ALWAYS = (0, 1, 2, 130)


def section(statuses: tuple[int, ...]) -> str:
    """The EXIT STATUS section of a command that ends with ``statuses`` besides those that any command has."""
    lines = [f"  {status:>3}  {MEANINGS[status]}" for status in sorted({*ALWAYS, *statuses})]
    return "\n".join(["\b", "EXIT STATUS", *lines])
