"""The command ``facts``: what a dump or a database contains."""
