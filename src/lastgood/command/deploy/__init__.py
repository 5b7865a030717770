"""The command ``deploy``: run a migration, and take it back when it fails."""
