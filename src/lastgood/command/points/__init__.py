"""The commands ``points`` and ``backup``: list, verify and make restore points."""
