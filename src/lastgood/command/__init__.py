"""The commands: one folder each, with what it parses, what it shows and its logic."""
