"""Plain SQL of pg_dump as bytes, split into commands, comments and rows."""
