"""Owners, privileges and row-level security."""
