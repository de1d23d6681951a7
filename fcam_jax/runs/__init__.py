"""A run: its folder, its experiment, its results; and what is made of runs: report, predictions, sweeps."""
