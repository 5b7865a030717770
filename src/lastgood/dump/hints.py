"""Hints for files that cannot be used, shared by all readers of dumps."""

from __future__ import annotations

ANOTHER = "Choose another restore point: lastgood points"
CUT_OFF = "The file is truncated, or pg_dump was interrupted: choose another restore point."
