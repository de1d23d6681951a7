"""Folders of runs, made by hand: configuration, evaluation records and metric logs, without any training."""

import json
import zlib

import cv2
import numpy as np

from fcam_jax.evaluation.evaluator import Evaluation, Example
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.runs.report.record import save_record
from fcam_jax.types import Annotation

CONFIG = {
    "seed": 0,
    "data": {"source": "folder", "name": "CUB", "size": 224},
    "model": {"encoder": "resnet50"},
    "cam": {"name": "cam"},
    "fcam": {
        "seeds": {"background_fraction": 0.3},
        "loss": {"seeds": {"weight": 1.0}, "crf": {"weight": 1e-9}, "size": {"weight": 0.1}},
    },
    "validation": {"selection": "MaxBoxAcc"},
}
TAUS = np.arange(0, 1, 0.01)
HEIGHT, WIDTH = 32, 40


def config(**values):
    """`CONFIG` with other values by dotted key, dots as two underscores; None leaves a key out."""
    changed = json.loads(json.dumps(CONFIG))
    for key, value in values.items():
        *path, last = key.split("__")
        node = changed
        for name in path:
            node = node[name]
        node[last] = value
        if value is None:
            del node[last]
    return changed


def smooth_map(rng, height=HEIGHT, width=WIDTH, cells=6):
    """A map between 0 and 1 with hills."""
    low = rng.random((cells, cells)).astype(np.float32)
    enlarged = np.clip(cv2.resize(low, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    return (enlarged - enlarged.min()) / np.ptp(enlarged)


def example(rng, image_id, label=0, boxes=True, mask=True, score_map=None, found=False):
    """An example whose name gives the object's place; its map is random, or the object's where it is found."""
    place = np.random.default_rng(zlib.crc32(ascii(image_id).encode()))
    x, y = int(place.integers(2, 14)), int(place.integers(2, 10))
    truth = np.zeros((HEIGHT, WIDTH), bool)
    truth[y : y + 18, x : x + 20] = True
    if score_map is None:
        score_map = cv2.GaussianBlur(truth.astype(np.float32), (5, 5), 0) if found else smooth_map(rng)
    image = place.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    return Example(
        cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC),
        Annotation(
            image_id,
            label,
            np.array([[x, y, x + 20, y + 18]]) if boxes else None,
            truth if mask else None,
            ~truth & (np.arange(WIDTH) > 35) if mask else None,
        ),
        score_map,
        rank=int(rng.integers(0, 3)),
        predicted=int(rng.integers(0, 2)),
    )


def ids(count):
    """Names of images of two classes."""
    return [f"{i % 2:03d}.Bird_{i % 2}/{i}.jpg" for i in range(count)]


def evaluation(names, figures, seed=0, boxes=True, mask=True, threshold=0.4, finds=0):
    """An evaluation with an example for every name, of which the first few are found."""
    rng = np.random.default_rng(seed)
    examples = [example(rng, name, i % 2, boxes, mask, found=i < finds) for i, name in enumerate(names)]
    curves = {"MaxBoxAcc": 100 * np.exp(-(((TAUS - threshold) / 0.2) ** 2))} if boxes else {}
    metrics = figures | ({"MaxBoxAcc_threshold": threshold} if boxes else {})
    histogram = sum((np.histogram(one.score_map, 256, (0, 1))[0] for one in examples), np.zeros(256, int))
    pixels = PixelPrecision(float(TAUS[1]))
    for one in examples if mask else ():
        pixels = pixels.update(one.score_map, one.annotation)
    return Evaluation(metrics, examples, TAUS, curves, histogram, pixels.curve() if mask and examples else None)


def make_run(folder, rows=None, names=None, boxes=True, mask=True, split="test", **values):
    """A run's folder.

    Args:
      folder: to be made.
      rows: figures by method.
      names: of the kept images.
      boxes: whether the images have boxes.
      mask: whether they have masks.
      split: of the records.
      values: of the configuration, as for `config`.
    """
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config(**values)))
    for i, (row, figures) in enumerate((rows or {"CAM": {"MaxBoxAcc": 50.0}, "F-CAM": {"MaxBoxAcc": 75.0}}).items()):
        kept = ids(4) if names is None else names
        finds = len(kept) // 2 if row == "F-CAM" else 0
        made = evaluation(kept, figures, seed=100 * i, boxes=boxes, mask=mask, finds=finds)
        save_record(folder, row, made, images=500, split=split)
    return folder


def write_log(folder, stage, values, name="MaxBoxAcc"):
    """A stage's metric log with a validation figure for every epoch."""
    lines = [{"step": 0, "kind": "train", "loss": 1.0}]
    lines += [{"step": 10 * i, "kind": "val", name: value, "top1_cls": 90.0} for i, value in enumerate(values)]
    (folder / stage).mkdir()
    (folder / stage / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_results(folder, checkpoints, marks=None, **facts):
    """A run's `results.json`, as far as it is read beside the records.

    Args:
      folder: of the run.
      checkpoints: validation figures by row.
      marks: of the training of a row.
      facts: others.
    """
    results = {
        "config_hash": f"hash of {folder.name}",
        "checkpoints": {
            row: {"stage": "fcam" if row == "F-CAM" else "classifier", "step": 40, "val": val}
            | ({"marks": marks[row]} if row in (marks or {}) else {})
            for row, val in checkpoints.items()
        },
    }
    (folder / "results.json").write_text(json.dumps(results | facts))
