"""Sweeps, one file each: `get_runs(args)` says what is to be run; docs/sweeps.md says how."""
