"""The load on a server: how much of it a run may use, and when the run slows down or stops."""
