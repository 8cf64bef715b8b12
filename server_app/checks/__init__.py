"""What is looked at before a run starts: whether the data can carry the experiment, and every mistake at once."""
