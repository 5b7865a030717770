"""The command ``validate``: check data integrity."""
