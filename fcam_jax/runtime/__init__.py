"""What every program of the package stands on: hosts, locks, signals, progress, files, compiled code."""
