"""The command ``diff``: the rows that two states of a database do not share."""
