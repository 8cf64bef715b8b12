"""Local training, evaluation and personal state."""
