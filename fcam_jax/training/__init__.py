"""Training of any method: optimiser, mapped step, checkpoints, metric log and the loop that joins them."""
