"""An example of ``lastgood.toml``: every table and every key with a realistic value.

``lastgood config example`` prints it as comments; a test removes the comment signs and reads it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lastgood.config.options import OPTIONS
from lastgood.config.tables import Command, Conninfos, Duration, Folder, Size, Tables

WIDTH = 100

# Example values for keys whose default explains little; several instances of a table where keys exclude each other.
EXAMPLES: dict[str, tuple[Mapping[str, object], ...]] = {
    "hooks": (
        {
            "maintenance_on": ("heroku", "maintenance:on", "--app", "crm"),
            "maintenance_off": ("heroku", "maintenance:off", "--app", "crm"),
            "stop": ("systemctl", "stop", "crm", "crm-worker"),
            "start": ("systemctl", "start", "crm", "crm-worker"),
            "smoke": ("npm", "run", "smoke"),
        },
    ),
    "pgbouncer": ({"admin": ("host=127.0.0.1 port=6432 user=pgbouncer dbname=pgbouncer",), "databases": ("crm",)},),
    "health": (
        {
            "url": "https://crm.example.org/health",
            "json": {"status": "ok"},
            "headers": {"Authorization": "HEALTH_TOKEN"},
        },
    ),
    "watch.sentry": ({"organization": "example", "project": "crm"},),
    "check": ({"max_age": "24h", "free_space": "200GB"},),
    "validate": ({"ignore": ("guess: notes.author_id",)},),
    "validate.rules": (
        {
            "name": "every opportunity has an owner",
            "query": "SELECT id FROM public.opportunities WHERE owner_id IS NULL",
            "of": "SELECT count(*) FROM public.opportunities",
            "severity": "warning",
            "weight": 2.0,
            "quick": True,
        },
        {
            "name": "the newest migration is applied",
            "query": "SELECT max(version) FROM supabase_migrations.schema_migrations",
            "expect": "20251203120000",
        },
        {
            "name": "the number of contacts is plausible",
            "query": "SELECT count(*) FROM public.contacts",
            "at_least": 1000,
            "at_most": 1000000,
        },
    ),
    "validate.polymorphic": (
        {
            "table": "public.notes",
            "type_column": "subject_type",
            "id_column": "subject_id",
            "targets": {"contact": "public.contacts", "organization": "public.organizations"},
        },
    ),
    "record": ({"post_mortem_within": "48h", "checklist": ("customer support is informed",)},),
    "recover": (
        {
            "folders": ("/mnt/backup/crm", "~/dumps"),
            "physical": ("/mnt/backup/base",),
            "wal": ("/mnt/backup/wal",),
            "platform": "supabase",
        },
    ),
    "loss": (
        {
            "people": ("public.users", "*contacts"),
            "consents": ("*consent*",),
            "access": ("*sessions", "*tokens"),
            "queues": ("*outbox*", "*jobs"),
            "schedules": ("cron.job",),
            "references": ("stripe_*", "*message_id", "public.orders.tracking_number"),
        },
    ),
    "server": ({"wait_limit": "15s"},),
    "drill": ({"every": "90d", "folder": "/mnt/scratch"},),
    "guide": (
        {
            "owner": "the platform team",
            "review_every": "90d",
            "related": ("Incident process: https://wiki.example.org/incidents",),
        },
    ),
    "recover.audit": (
        {
            "table": "audit.record_version",
            "time_column": "ts",
            "table_column": "table_name",
            "operation_column": "op",
        },
    ),
    "retention": ({"timezone": "Europe/Berlin"},),
    "retention.keep": (
        {"last": 3, "hourly": 24, "daily": 7, "weekly": 5, "monthly": 12, "yearly": 3, "within": "14d"},
    ),
    "retention.kept": ({"last": 1, "within": "7d"},),
    "deploy": ({"time_limit": "30min", "stop": True, "url_variables": ("DATABASE_URL", "SUPABASE_DB_URL")},),
    "notifications": ({"time_limit": "10s"},),
    "notifications.targets": (
        {
            "name": "on call",
            "url_variable": "LASTGOOD_NOTIFY_ON_CALL",
            "on": ("failure", "undo"),
            "kinds": ("rollback", "undo", "deploy"),
        },
        {"name": "team", "url_file": "~/.config/lastgood/team.url"},
    ),
}
# Types recognised by the validators of their values.
_LASTS = get_args(Duration)[1]
_KINDS: tuple[tuple[object, str], ...] = (
    (_LASTS, "length of time"),
    (get_args(Size)[1], "size"),
    (get_args(Conninfos)[1], "connection string, or a list of them"),
)


def commented() -> Iterator[str]:
    """Yield the lines of the whole file as comments: each plain key, and each table with its purpose and its keys."""
    for each in OPTIONS:
        if each.in_file:
            yield from _wrapped(each.doc)
            if each.choices:
                yield f"# One of: {', '.join(each.choices)}."
            yield f"# {each.name} = {written(each.example or each.default)}"
            yield ""
    yield "# Tables: settings around a rollback. Without a table, its defaults apply, or its part is skipped."
    for path, model, many in tables():
        yield ""
        yield from _table(path, model, many, "# ")


def of_table(name: str) -> list[str]:
    """Return the lines of table ``name`` and of those within it, ready to be edited; empty if there is none."""
    lines: list[str] = []
    for path, model, many in tables():
        if path == name or path.startswith(f"{name}."):
            lines += [*([""] if lines else []), *_table(path, model, many, "")]
    return lines


def _table(path: str, model: type[BaseModel], many: bool, sign: str) -> Iterator[str]:
    yield from _wrapped(" ".join((model.__doc__ or "").replace("``", "").split()))
    for number, values in enumerate(_instances(path, model)):
        yield f"{sign}[[{path}]]" if many else f"{sign}[{path}]"
        for key, value in values.items():
            if number == 0:
                yield from _wrapped(model_fields(model)[key].description or "")
            yield f"{sign}{key} = {written(value)}"


def tables(model: type[BaseModel] = Tables, path: str = "") -> Iterator[tuple[str, type[BaseModel], bool]]:
    """Yield every table, outer ones first: its name in the file, its class, and whether it may occur several times."""
    for key, each in model_fields(model).items():
        inner = _model(each.annotation)
        if inner is not None:
            inner_path = f"{path}.{key}" if path else key
            yield inner_path, inner, get_origin(each.annotation) is tuple
            yield from tables(inner, inner_path)


def model_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the keys of a table under their names in the file."""
    return {each.alias or name: each for name, each in model.model_fields.items()}


def default_of(each: FieldInfo) -> object:
    """Return a default in the notation of the file: ``60s``, not ``60.0``."""
    default = None if each.is_required() else each.get_default(call_default_factory=True)
    return duration(default) if _LASTS in each.metadata and isinstance(default, float) else default


def is_table(each: FieldInfo) -> bool:
    """Whether a key is a table of its own."""
    return _model(each.annotation) is not None


def kind(each: FieldInfo) -> str:
    """Describe the type of a key's value in words."""
    return _kind(each.annotation, tuple(each.metadata))


def _kind(annotation: Any, metadata: tuple[object, ...] = ()) -> str:
    for marked, words in _KINDS:
        if marked in metadata:
            return words
    if annotation == Command:
        return "list: the program, then its arguments"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0], arguments[1:])
    if origin in (Union, UnionType):
        several = [_kind(one) for one in arguments if one is not type(None)]
        return " or ".join(dict.fromkeys(several))
    if origin is Literal:
        return " or ".join(f"`{written(one)}`" for one in arguments)
    if origin is tuple:
        if get_origin(arguments[0]) is Literal:
            return "list of " + ", ".join(f"`{written(one)}`" for one in get_args(arguments[0]))
        return "list of folders" if arguments[0] is Folder else "list of texts"
    names = {str: "text", bool: "true or false", int: "whole number", float: "number", Path: "path"}
    return names.get(annotation, "table")


def duration(seconds: float) -> str:
    """Render a length of time in its shortest form: ``90d``, ``2min``, ``5s``."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


def _instances(path: str, model: type[BaseModel]) -> list[dict[str, object]]:
    """Return the examples of a table: the values of EXAMPLES, and defaults for the keys it omits."""
    examples = EXAMPLES.get(path, ({},))
    shown = {key for each in examples for key in each}
    defaults = {
        key: default_of(each)
        for key, each in model_fields(model).items()
        if key not in shown and _model(each.annotation) is None
    }
    order = list(model_fields(model))
    first = {**defaults, **examples[0]}
    return [dict(sorted(first.items(), key=lambda pair: order.index(pair[0]))), *(dict(each) for each in examples[1:])]


def _model(annotation: Any) -> type[BaseModel] | None:
    """Return the table behind ``Table``, ``Table | None`` or ``tuple[Table, ...]``; None for a value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (tuple, Union, UnionType):
        return next((found for each in get_args(annotation) if (found := _model(each)) is not None), None)
    return None


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")


def written(value: object) -> str:
    """Render a value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {written(each)}" for key, each in value.items()) + " }"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(written(each) for each in value) + "]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'
