"""Understanding pg_dump's output; knows nothing of servers."""
