"""Benchmarks, one file each; a file's docstring is its record: command, cost, result to expect, source."""
