"""The restore engine: runs a dump's script in an empty database, on several sessions at once.

Definitions go in first, in their order. Then each worker takes the task with the most work behind it: rows of a table,
an index of one whose rows are in, a foreign key between two that have their indexes, and, where nothing else is to
do, a table's rows back out, to see that they are the dump's.
"""
