"""The command ``explain``: the cause of an error, a log or a run, and the next command."""
