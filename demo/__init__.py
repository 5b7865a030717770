"""A CRM that a migration breaks and lastgood puts back: run it with ``python -m demo``."""
