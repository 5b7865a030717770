"""The parts around a rollback."""
