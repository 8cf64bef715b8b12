"""How updates become one model: running mean, robust forms of it, server optimisers."""
