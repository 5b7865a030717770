"""The command ``config``: the settings in effect and their sources."""
