"""PgBouncer, through its admin console: which of its databases lead to the live one, and holding their clients back."""

from lastgood.postgres.pgbouncer.console import Console, ConsoleError
from lastgood.postgres.pgbouncer.look import ConsoleState, PooledDatabase, consoles

__all__ = ["Console", "ConsoleError", "ConsoleState", "PooledDatabase", "consoles"]
