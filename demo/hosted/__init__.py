"""The demo's second act, on a stand-in for a hosted project: run it with ``python -m demo.hosted``."""
