"""Stage 2: F-CAM. The classifier is frozen; a decoder on its stages learns from seeds, CRF and size (F-CAM, Sec. 2)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.contract import Cam, explain
from fcam_jax.cams.crop import cropped_maps
from fcam_jax.cams.score_maps import minmax, score_map
from fcam_jax.losses.pixel_alignment import PixelAlignment, pixel_alignment
from fcam_jax.methods.contract import image_keys
from fcam_jax.models.fcam import FCAM
from fcam_jax.remat import kept
from fcam_jax.seeds.sampling import SeedSettings, dead_seeds, draw_seeds
from fcam_jax.types import DATA_AXIS, Batch, Localization

DECODER = nnx.All(nnx.Param, nnx.PathContains("decoder"))


@dataclasses.dataclass(frozen=True)
class FCAMMethod:
    """Pixel alignment training of the decoder; localization by its foreground map.

    Attributes:
      cam: source of the seeds.
      seeds: how seeds are drawn from it.
      alignment: the loss.
      steps_per_epoch: turns a step into an epoch, for the schedules of the loss.
    """

    cam: Cam
    seeds: SeedSettings
    alignment: PixelAlignment
    steps_per_epoch: int
    trainable: Any = DECODER

    def loss(
        self, model: FCAM, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Pixel alignment loss of the global batch (F-CAM, Eq. 3), its terms, and `dead_seeds`."""
        images = jnp.asarray(batch.images)
        stages, _, map_logits = model(images, train=True)
        keys = image_keys(rng, batch)
        seed_keys, crf_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        # Folding in 0 or 1 would give the two keys above once more.
        cam_keys = jax.vmap(lambda key: jax.random.fold_in(key, 2))(keys)
        seeds = kept(draw_seeds(seed_keys, self.seed_source(model, stages, batch, cam_keys), self.seeds))
        epoch = step // self.steps_per_epoch
        colours = images if batch.raw is None else batch.raw
        loss, figures = pixel_alignment(map_logits, seeds, colours, crf_keys, epoch, self.alignment, DATA_AXIS)
        return loss, figures | {"dead_seeds": jax.lax.pmean(dead_seeds(seeds, self.seeds), DATA_AXIS)}

    def seed_source(
        self, model: FCAM, stages: tuple[Float[Array, "b _ _ _"], ...], batch: Batch, keys: Key[Array, " b"]
    ) -> Float[Array, "b h w"]:
        """The CAM C of the true label that seeds are drawn from, at the image's size; the batch's own if it has one."""
        size = batch.images.shape[1], batch.images.shape[2]
        if batch.cams is not None and batch.crop is not None:
            return jnp.clip(cropped_maps(jnp.asarray(batch.cams), jnp.asarray(batch.crop), size), 0, 1)
        images, labels = jnp.asarray(batch.images), jnp.asarray(batch.labels)
        maps = self.cam(explain(model.classifier, images, stages, labels, keys))
        return jax.lax.stop_gradient(score_map(maps, size, "fcam"))

    def whole_maps(self, model: FCAM, batch: Batch) -> Float[Array, "b h w"]:
        """CAMs of the true label at low resolution, in [0, 1], for `Batch.cams`; drawn alike every time."""
        images = jnp.asarray(batch.images)
        stages, _ = model.classifier(images, train=False)
        keys = image_keys(jax.random.key(0), batch)
        return minmax(self.cam(explain(model.classifier, images, stages, jnp.asarray(batch.labels), keys)))

    def localize(self, model: FCAM, batch: Batch) -> Localization:
        """The foreground map S^2: class-agnostic, in [0, 1], not normalised again."""
        _, logits, map_logits = model(jnp.asarray(batch.images), train=False)
        return Localization(jax.nn.softmax(map_logits.astype(jnp.float32))[..., 1], logits)

    def learning_rate_factor(self, path: tuple[Any, ...]) -> float:
        """1: all of the decoder is new."""
        return 1.0
