"""The federation's sites: who they are, waiting for them, and those that come later."""
