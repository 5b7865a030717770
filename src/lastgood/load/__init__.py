"""The restore engine: run a dump's script in an empty database, in several sessions at once.

Definitions come first, in their order. Then each worker takes the task with the most work behind it: the rows of a
table, an index of a loaded table, a foreign key between two indexed tables. When nothing else is left, it reads a
table's rows back and verifies that they match the dump.
"""
