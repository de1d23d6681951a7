"""The configuration: every key with its default, packaged benchmarks by name, overrides of the command line."""
