"""Rows of a dump, from COPY and INSERT: their checks and permitted targets."""
