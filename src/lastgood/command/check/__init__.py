"""The command ``check``: the checklist before a rollback."""
