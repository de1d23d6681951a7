"""Class activation maps: one file per variant, their registry, and the one place that normalises and resizes maps."""
