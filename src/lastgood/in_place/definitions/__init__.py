"""The definitions of a restore point under the names of staging schemas, rewritten by the server; see ``rewrite``."""
