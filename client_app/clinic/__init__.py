"""What a hospital does with its trained model: predictions on its own images."""
