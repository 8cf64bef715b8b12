"""How updates become one model: running mean, and robust forms of it."""
