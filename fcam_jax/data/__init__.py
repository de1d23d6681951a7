"""Data sets and the pipeline that makes batches of them; the records of a split are a `Source`."""

from fcam_jax.component import Registry
from fcam_jax.data.folder import Folder
from fcam_jax.data.source import DataSet
from fcam_jax.data.synthetic import Synthetic
from fcam_jax.data.tfds_source import Prepared

SOURCES: Registry[type[DataSet]] = Registry("data source", {"folder": Folder, "tfds": Prepared, "synthetic": Synthetic})
