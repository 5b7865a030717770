"""The commands ``report`` and ``runs``: what was done, and what is left to do."""
