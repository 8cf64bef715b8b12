"""Heads in closed form from sums over images: exact sums (`sums.py`), ridge regression on them (`ridge.py`)."""
