"""Restore of the readable part of a damaged dump."""
