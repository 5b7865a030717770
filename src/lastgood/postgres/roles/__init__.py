"""Roles whose sessions may run code of others: made without rights, or lent."""
