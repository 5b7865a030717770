"""Units, redaction and escapes in what people read."""
