"""Testing a trained model and showing the result."""
