"""A CRM that is broken by a migration and put back: run it with ``python -m demo``."""
