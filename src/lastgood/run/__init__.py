"""One run: preparation, context, steps and result."""
