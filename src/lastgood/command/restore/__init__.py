"""The command ``restore``: load a restore point into a new database."""
