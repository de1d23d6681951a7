"""A run's network as a program of its own, without this package: images in; class scores, map and box out.

It is written as StableHLO, which JAX alone reads and runs, or as ONNX.
"""

import json
import pathlib
from collections.abc import Collection
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Num

from fcam_jax.errors import InputError, extra, unknown_name
from fcam_jax.evaluation.traced_boxes import traced_boxes
from fcam_jax.models.fcam import FCAM
from fcam_jax.runs.prediction.network import PREDICTED, Network, predict
from fcam_jax.runtime.files import replace_file, write_record
from fcam_jax.types import Batch

PARTS = ("bytes", "label", "box", "half")
STABLEHLO, ONNX = "stablehlo", "onnx"
PLATFORMS = ("cpu", "cuda", "tpu")


class Program:
    """A network with what is put around it.

    Images are RGB [b, size, size, 3], and b is open. Out come `scores` [b, k] of the classes before softmax, `label`
    [b], the class of each map, and `map` [b, size, size] in [0, 1].

    Args:
      parts: of `PARTS`: with "bytes" images are uint8 in [0, 255], else float32, normalised by the encoder's mean
        and standard deviation; with "label" a second input int32 [b] has the class of each map, -1 for the predicted,
        which else all are of; with "box" the box of the largest region at the network's threshold comes out, too,
        int32 [b, 4] of inclusive pixels x0, y0, x1, y1; with "half" ONNX keeps the weights in half precision, which
        halves the file, and computes in float32 as before.

    Raises:
      InputError: there is no such part.
    """

    def __init__(self, network: Network, parts: Collection[str]):
        if strange := [part for part in parts if part not in PARTS]:
            raise unknown_name("part of --with", strange[0], PARTS)
        self.network, self.parts = network, tuple(part for part in PARTS if part in parts)
        model = network.model
        self._encoder = (model.classifier if isinstance(model, FCAM) else model).encoder

    def __call__(
        self, images: Num[Array, "b h w 3"], labels: Int[Array, " b"] | None = None
    ) -> dict[str, Num[Array, "b ..."]]:
        """The outputs by their names."""
        if "bytes" not in self.parts:
            images = images * jnp.asarray(self._encoder.std) + jnp.asarray(self._encoder.mean)
        count = images.shape[0]
        given = jnp.full(count, PREDICTED, jnp.int32) if labels is None else labels
        # Index 0 for all, as in `Predictor`.
        batch = Batch(images, given, jnp.zeros(count, jnp.int32), jnp.ones(count, jnp.float32))
        maps, scores, found = predict(self.network.model, self.network.localizer, batch)
        maps = maps.astype(jnp.float32)
        made = {"scores": scores.astype(jnp.float32), "label": found.astype(jnp.int32), "map": maps}
        threshold = self.network.threshold
        box = {"box": traced_boxes(maps, threshold.value, threshold.of_maximum)} if "box" in self.parts else {}
        return made | box

    def inputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of the inputs by name."""
        (count,) = jax.export.symbolic_shape("b")
        side, kind = self.network.size, np.uint8 if "bytes" in self.parts else np.float32
        images = {"images": jax.ShapeDtypeStruct((count, side, side, 3), kind)}
        return images | ({"labels": jax.ShapeDtypeStruct((count,), np.int32)} if "label" in self.parts else {})

    def facts(self) -> dict[str, Any]:
        """What its user has to know, as JSON data."""
        network = self.network
        return {
            "map": network.title,
            "size": network.size,
            "class_names": list(network.class_names),
            "threshold": network.threshold.value,
            "threshold_source": network.threshold.source,
            "threshold_of_maximum": network.threshold.of_maximum,
            "mean": list(self._encoder.mean),
            "std": list(self._encoder.std),
            "with": list(self.parts),
        }

    def write(self, form: str, out: pathlib.Path) -> list[pathlib.Path]:
        """Write `network.FORM` into a folder, and beside it `network.json`, the facts; ONNX has them inside, too.
        Returns the files.

        Raises:
          InputError: ONNX cannot say it, or its library is not installed; StableHLO has no half.
        """
        files = [out / f"network.{form}", out / "network.json"]
        inputs = self.inputs()
        if form == STABLEHLO:
            if "half" in self.parts:
                raise InputError("--with=half is of --format=onnx; StableHLO keeps weights as the run has them")
            exported = jax.export.export(jax.jit(self.__call__), platforms=PLATFORMS)(*inputs.values())
            data = bytes(exported.serialize())
        else:
            with extra("onnx", "--format=onnx"):
                from fcam_jax.runs.onnx_model import halved, onnx_model
            texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in self.facts().items()}
            model = onnx_model(self, inputs, texts)
            data = (halved(model) if "half" in self.parts else model).SerializeToString()
        replace_file(files[0], data)
        write_record(files[1], self.facts())
        return files
