"""The command ``drill``: rehearse the whole procedure on a scratch server."""
