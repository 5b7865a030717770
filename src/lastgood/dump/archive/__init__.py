"""Archives of pg_dump: custom, directory and tar."""
