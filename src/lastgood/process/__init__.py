"""Child processes, how they end, durable files and signals."""
