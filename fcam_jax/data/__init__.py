"""Data: sources of annotated images, what is done to an image before the network sees it, and the batches."""

from fcam_jax.data.folder import FolderSource
from fcam_jax.data.synthetic import SyntheticSource

SOURCES = {"synthetic": SyntheticSource, "folder": FolderSource}
