"""The command ``notify``: list and test the recipients of notifications."""
