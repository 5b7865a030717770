"""The command ``init``: write a configuration for this machine."""
