"""Rendering of events, plans and results, as text or JSON."""
