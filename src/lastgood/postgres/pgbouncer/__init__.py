"""PgBouncer, through its admin console: the databases that lead to the live one, and the pause of their clients."""

from lastgood.postgres.pgbouncer.console import Console, ConsoleError
from lastgood.postgres.pgbouncer.consoles import ConsoleState, PooledDatabase, consoles

__all__ = ["Console", "ConsoleError", "ConsoleState", "PooledDatabase", "consoles"]
