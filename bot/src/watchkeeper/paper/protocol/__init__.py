"""Real venues' wire protocols in front of the engine."""
