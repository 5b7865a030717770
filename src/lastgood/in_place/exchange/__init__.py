"""The exchange of objects in one transaction: its locks, its waits, and what it leaves to do."""
