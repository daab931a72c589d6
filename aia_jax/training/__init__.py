"""Training: methods, their step and state, the optimiser, and what a run logs and shows."""
