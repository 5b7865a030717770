"""Signs that a text is damaged, incomplete, or written by another program."""
