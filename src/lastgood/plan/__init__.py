"""The plan of a rollback, and the runs that are unfinished."""
