"""The command ``prune``: remove what is no longer needed. ``plan`` decides what, ``removal`` removes it."""
