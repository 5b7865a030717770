"""The Typer application, and the decorator that makes a command of a function.

Options that every command takes are made from the registry in config.py, and are accepted before and after the
command's name: ``lastgood --db URL status`` and ``lastgood status --db URL`` are the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lastgood import __version__, config
from lastgood.cli import exit_status
from lastgood.cli.session import Session
from lastgood.errors import UNKNOWN_STATE, Interrupted

# In help: what one needs at night comes first.
ORDER = (
    "rollback",
    "recover",
    "undo",
    "status",
    "resume",
    "abort",
    "explain",
    "runs",
    "report",
    "deploy",
    "check",
    "maintenance",
    "backup",
    "points",
    "facts",
    "restore",
    "validate",
    "drill",
    "prune",
    "guide",
    "init",
    "config",
    "notify",
)


class _Ordered(TyperGroup):
    """Lists commands in ORDER."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    name="lastgood",
    cls=_Ordered,
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
    """

    def register(function: Callable[..., int | None]) -> Callable[..., int | None]:
        _, *own = inspect.signature(function, eval_str=True).parameters.values()

        def invoke(ctx: typer.Context, **values: Any) -> int | None:
            return _run(ctx, function, values)

        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        parameters += [_from_registry(config.option(each)) for each in options]
        _with_signature(invoke, parameters, function.__doc__)
        summary = (function.__doc__ or "").partition("\n")[0].rstrip(".")
        (into or app).command(name, short_help=summary, epilog=exit_status.section(statuses))(invoke)
        return function

    return register


def group(name: str, doc: str, default: Callable[[Session], int | None]) -> typer.Typer:
    """A command that has commands of its own; without one of them it does what ``default`` does."""
    short = doc.partition("\n")[0].partition(". ")[0].rstrip(".")
    made = typer.Typer(name=name, help=doc, short_help=short, epilog=exit_status.section(()), rich_markup_mode=None)

    def callback(ctx: typer.Context, **values: Any) -> int | None:
        if ctx.invoked_subcommand is None:
            return _run(ctx, default, values)
        _remember(ctx, values)
        return None

    _with_signature(callback, [], None)
    made.callback(invoke_without_command=True)(callback)
    app.add_typer(made)
    return made


def _run(ctx: typer.Context, function: Callable[..., int | None], values: dict[str, Any]) -> int | None:
    session = _remember(ctx, values)
    try:
        session.use(config.resolve(session.given))
        return function(session, **values)
    except (KeyboardInterrupt, EOFError):  # of which Typer would make an empty line
        raise Interrupted("interrupted", state=UNKNOWN_STATE) from None


def _remember(ctx: typer.Context, values: dict[str, Any]) -> Session:
    """Takes what belongs to the settings out of ``values``."""
    session = ctx.find_object(Session)
    assert session is not None, "main() gives every call a session"
    for each in config.OPTIONS:
        if (given := values.pop(each.name, None)) is not None:
            session.given[each.name] = given
    return session


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
