"""The command ``help``: the help of other commands, and the exit statuses."""
