"""The only place that knows how a PostgreSQL server behaves."""
