"""The command ``status``: the databases, the last run and what is unfinished."""
