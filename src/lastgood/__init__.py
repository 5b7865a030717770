"""lastgood rolls a PostgreSQL database back to its last good state."""

__version__ = "0.1.0"
