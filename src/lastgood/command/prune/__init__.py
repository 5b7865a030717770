"""The command ``prune``: remove what is no longer needed."""
