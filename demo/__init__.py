"""A CRM that a migration breaks and lastgood rolls back: run it with ``python -m demo``."""
