"""Parser for pg_dump's output; independent of servers."""
