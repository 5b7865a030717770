"""The command ``maintenance``: stop and start the application by hand."""
