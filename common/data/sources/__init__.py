"""One file a data set: which images there are, their labels, and a held-out test."""
