"""The recipe: optimiser, step, checkpoints, what a person sees."""
