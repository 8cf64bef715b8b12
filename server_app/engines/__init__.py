"""What runs an experiment: in this process, Flower's simulation, or a real federation; and how a run is stopped."""
