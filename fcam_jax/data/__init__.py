"""Data sets and the pipeline that makes batches of them; the records of a split are a `Source`."""
