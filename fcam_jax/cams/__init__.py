"""Class activation maps: one file per variant and their registry, and the one place that normalises and resizes maps."""
