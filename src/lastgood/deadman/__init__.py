"""Dead-man switches: processes of our own that act when the one that started them is gone."""
