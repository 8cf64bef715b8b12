"""The rounds of federated training, as a Flower strategy."""
