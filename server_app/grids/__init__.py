"""What carries messages to sites: in this process, or one reply at a time over Flower."""
