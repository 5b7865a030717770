"""The commands ``report`` and ``runs``: past runs, and their open tasks."""
