"""How fast lastgood is beside psql, on the same data, in one run: ``python -m bench``."""
