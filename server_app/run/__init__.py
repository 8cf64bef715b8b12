"""A run on disk: its journal, checkpoints, what may change when it is resumed, and its summary."""
