"""The published data sets, out of what was downloaded: described, found in archives, checked, and written by TFDS."""
