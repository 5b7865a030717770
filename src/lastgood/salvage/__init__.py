"""Rows brought back: those written after a restore point, merged by cell into the restored database."""
