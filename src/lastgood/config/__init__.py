"""The configuration of one call: options, and the tables of ``lastgood.toml``."""

from lastgood.config.file import NOTHING_LOOKED_AT
from lastgood.config.options import FILE_NAME, OPTIONS, Option, Value, option
from lastgood.config.settings import LIBPQ, Settings, check_database, resolve
from lastgood.config.tables import NO_PGBOUNCER, PgBouncer, Tables

__all__ = [
    "FILE_NAME",
    "LIBPQ",
    "NOTHING_LOOKED_AT",
    "NO_PGBOUNCER",
    "OPTIONS",
    "Option",
    "PgBouncer",
    "Settings",
    "Tables",
    "Value",
    "check_database",
    "option",
    "resolve",
]
