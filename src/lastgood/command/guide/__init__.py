"""The command ``guide``: write the procedure of a rollback as plain commands."""

# Where it is written, unless another name is given.
FILE = "manual-rollback-procedure.md"
