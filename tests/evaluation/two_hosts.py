"""One of two processes that evaluate a split together: `python -m tests.evaluation.two_hosts PORT PROCESS`.

Prints a digest of every figure; PROCESS "alone" evaluates the whole split in one process.
"""

import hashlib
import json
import sys

import jax
import numpy as np

from fcam_jax.data.loaded import LoadedImages
from fcam_jax.data.pipeline import evaluation_batches
from fcam_jax.data.synthetic import Synthetic
from fcam_jax.evaluation.evaluator import evaluate
from fcam_jax.evaluation.findings import Wanted
from fcam_jax.evaluation.metrics import kinds
from fcam_jax.training.placed import data_mesh, spread
from fcam_jax.types import Localization

SIDE, IMAGES, BATCH = 32, 11, 4


def maps_of(batch):
    """Maps that follow from an image alone; NaN for padding, which no figure may see."""
    grey = batch.images.astype(np.float32).mean(axis=-1) / 255
    logits = jax.vmap(lambda image: image.reshape(-1)[:5])(grey)
    return Localization(jax.numpy.where(batch.valid[:, None, None] > 0, grey, np.nan), logits)


def main(port, process):
    """Evaluate and print."""
    if process != "alone":
        jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(process))
    mesh = data_mesh(BATCH)
    localize = jax.jit(maps_of, out_shardings=jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    source = Synthetic(size=SIDE, test=IMAGES, num_classes=5).open("test")
    images = LoadedImages(source, SIDE, annotated=True)
    batches = evaluation_batches(
        images, batch_size=BATCH, process_index=jax.process_index(), process_count=jax.process_count()
    )
    settings = Wanted(step=0.01, kinds=kinds(("PointingGame", "MeanBestIoU")), bootstrap=30, parts=True)
    found = evaluate(
        lambda batch: {"grey": localize(spread(batch, mesh))}, batches, settings, frozenset(range(IMAGES))
    )["grey"]
    arrays = [found.histogram, *found.curves.values(), *found.precision_recall]
    arrays += [array for example in found.examples for array in (example.image, example.score_map)]
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()
    parts = [found.by_size, found.by_class, len(found.constant)]
    facts = [found.metrics, found.intervals, *parts, len(found.examples), digest]
    print(json.dumps({"hosts": jax.process_count(), "devices": jax.device_count(), "facts": facts}))


if __name__ == "__main__":
    main(*sys.argv[1:])
