"""One file a data set: which images there are, their labels, and a held-out test.

Adding one is a file here that declares it in `DATASETS`, see `common/data_sets.py`, and has its `load`.
"""
