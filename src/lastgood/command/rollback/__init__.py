"""The commands ``rollback``, ``resume``, ``abort`` and ``undo``."""
