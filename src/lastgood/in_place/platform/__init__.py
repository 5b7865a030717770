"""Tables that stay in place: foreign keys to them, and rows that only one side has."""
