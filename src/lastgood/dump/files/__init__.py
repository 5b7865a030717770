"""Files with a dump: formats, compression and parts, recognized by content."""
