"""What a run does: one module per step, each a do/undo pair."""
