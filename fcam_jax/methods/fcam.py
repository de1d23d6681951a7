"""Stage 2: F-CAM. A decoder on a classifier's stages learns from seeds, CRF and size (F-CAM, Sec. 2).

The classifier is frozen, unless the loss has a classification term: then both are trained together.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key, UInt8

from fcam_jax.cams.contract import Cam, explain
from fcam_jax.cams.score_maps import cropped_maps, minmax, score_map
from fcam_jax.losses.color_filter import ColorFilter, color_filtered
from fcam_jax.losses.normalized_cut import normalized_cut
from fcam_jax.losses.partial_cross_entropy import partial_cross_entropy
from fcam_jax.losses.pixel_alignment import PixelAlignment, foreground_pull, pixel_alignment
from fcam_jax.losses.term import Evidence
from fcam_jax.methods.contract import constant, image_keys, rate_of_layers
from fcam_jax.methods.soundness import REMEDY, Mark, Watch, map_figures, marks_of, told_of
from fcam_jax.models.encoder import Stage
from fcam_jax.models.fcam import FCAM
from fcam_jax.runtime.random import OfImage, stream
from fcam_jax.runtime.remat import kept
from fcam_jax.seeds.sampling import SeedSettings, dead_seeds, draw_seeds
from fcam_jax.types import DATA_AXIS, Batch, Features, Localization

DECODER = nnx.All(nnx.Param, lambda path, _: path[0] == "decoder")  # not what a classifier may call so

# Numbers that a run may fit, besides factors on the weights of terms: a factor on n-, and the share of the filter.
BACKGROUND, COLOR = "background_fraction", "color"

JUDGED = 16  # seeds of each kind by which an image's map is judged


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Judgement:
    """How good the maps of some images are, without boxes."""

    seeds: Float[Array, " b"]  # cross-entropy at fresh seeds of the CAM, in nats; ln 2 is chance
    cut: Float[Array, " b"]  # normalised cut of the image by the map, 1 for a constant map


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class View:
    """What training sees of some images."""

    images: UInt8[Array | np.ndarray, "b h w 3"]  # as they enter the network
    cams: Float[Array | np.ndarray, "b h w"]  # what seeds are drawn from, in [0, 1]
    seeds: Int[Array | np.ndarray, "b h w"]  # as the step draws them
    foreground: Float[Array | np.ndarray, "b h w"]  # the foreground map S^2, in inference mode
    # Of the weighted CRF term in the foreground map; None where there is no such term.
    crf_gradient: Float[Array | np.ndarray, "b h w"] | None


@dataclasses.dataclass(frozen=True)
class FCAMMethod:
    """Pixel alignment training of the decoder; localization by its foreground map."""

    cam: Cam  # what the seeds are drawn from
    seeds: SeedSettings
    alignment: PixelAlignment  # the loss; where one of its terms trains the classifier, that is trained, too
    classifier_factor: float = 1.0  # on the learning rate of the classifier
    color: ColorFilter = dataclasses.field(default_factory=ColorFilter)  # of the map that seeds are drawn from
    whole_side: int = 0  # of the images that `Batch.cams` are of; 0: that of the batch's, which are whole then

    @property
    def trainable(self) -> Any:
        """The decoder, and the classifier where both are trained together."""
        return nnx.Param if self.alignment.trains_classifier else DECODER

    def loss(
        self, model: FCAM, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Pixel alignment loss of the global batch (F-CAM, Eq. 3) with what is added to it, all terms, `dead_seeds`,
        and accuracy in percent where the classifier is trained, too.
        """
        fixed, stages, scores, logits, image = self._forward(model, batch, rng)
        seed_keys, crf_keys, cam_keys = _keys_of_images(rng, batch)
        cams = self._colored(model, self.seed_source(fixed, stages, batch, cam_keys), batch, crf_keys)
        seeds = kept(draw_seeds(seed_keys, cams, self.seeds, _fitted(model).get(BACKGROUND, 1.0)))
        known = self._evidence(batch, logits, seeds, crf_keys, step, scores=scores, image=image, axis_name=DATA_AXIS)
        loss, figures = pixel_alignment(known, self.alignment, _fitted(model))
        figures |= map_figures(known.maps[..., 1])
        return loss, figures | {"dead_seeds": jax.lax.pmean(dead_seeds(seeds, self.seeds), DATA_AXIS)}

    def watch(self, remedy: bool = False) -> Watch:
        """Floods, collapses and seeds at chance; with `remedy` less of what floods after one of the first two."""
        return Watch(
            marks=self._marks,
            told=lambda figures: told_of(figures, list(self.alignment.active)),
            remedy=self._weakened if remedy and self.alignment.flooding else None,
        )

    def _marks(self, figures: Mapping[str, float], ahead: range) -> tuple[Mark, ...]:
        """The seeds must be learnt at the end, and when a term is to begin that floods; but not in one epoch."""
        flooding = self.alignment.flooding
        begins = ahead.start > len(ahead) and any(one.start in ahead for one in flooding.values())
        keys = " or ".join(f"fcam.loss.{name}.weight" for name in flooding) or "the weights of fcam.loss"
        cure = f"lower {keys}; see docs/poor_results.md"
        return marks_of(figures, ahead.start, decisive=begins or not ahead, cure=cure)

    def _weakened(self, rest: dict[Any, Any]) -> dict[Any, Any]:
        """The variables that are not trained, with a smaller weight of each term that floods."""
        fitted = rest["fitted"]
        return rest | {"fitted": fitted | {name: REMEDY * fitted[name] for name in self.alignment.flooding}}

    def _evidence(
        self,
        batch: Batch,
        logits: Float[Array, "b h w 2"],
        seeds: Int[Array, "b h w"],
        keys: Key[Array, " b"],
        step: Int[Array, ""],
        **more: Any,
    ) -> Evidence:
        """What the terms of the loss may look at."""
        return Evidence(
            logits=logits,
            maps=jax.nn.softmax(logits.astype(jnp.float32)),
            seeds=seeds,
            images=jnp.asarray(batch.images),
            raw=_raw(batch),
            keys=keys,
            step=step,
            labels=jnp.asarray(batch.labels),
            **more,
        )

    def _forward(
        self, model: FCAM, batch: Batch, rng: Key[Array, ""]
    ) -> tuple[
        FCAM,
        tuple[Stage, ...],
        Float[Array, "b k"],
        Float[Array, "b h w 2"],
        Float[Array, "b h w 3"] | None,
    ]:
        """The model that seeds come from and its stages, both in inference mode; class scores, map scores and image."""
        images = jnp.asarray(batch.images)
        if (known := batch.features) is not None:
            maps = {stage: jnp.asarray(features) for stage, features in known.maps.items()}
            return model, (), jnp.asarray(known.scores), *model.decoded(images, maps)
        if self.alignment.trains_classifier:
            fixed = constant(model)
            stages, _ = fixed.classifier(images, train=False)
            dropout_keys = stream(image_keys(rng, batch), OfImage.DROPOUT)
            return fixed, stages, *model.training_pass(images, rng=dropout_keys)[1:]
        if self.alignment.needs_image:
            return model, *model.training_pass(images, rng=None)
        return model, *model(images, train=True), None

    def view(self, model: FCAM, batch: Batch, rng: Key[Array, ""]) -> View:
        """What the loss sees of a batch at the step of this key, on one device; changes nothing."""
        images = jnp.asarray(batch.images)
        seed_keys, crf_keys, cam_keys = _keys_of_images(rng, batch)
        stages, scores, logits = model(images, train=False)
        cams = self._colored(model, self.seed_source(model, stages, batch, cam_keys), batch, crf_keys)
        seeds = draw_seeds(seed_keys, cams, self.seeds, _fitted(model).get(BACKGROUND, 1.0))
        known = self._evidence(batch, logits, seeds, crf_keys, jnp.zeros((), jnp.int32), scores=scores)
        return View(images, cams, seeds, known.maps[..., 1], foreground_pull(known, self.alignment, _fitted(model)))

    def seed_source(
        self, model: FCAM, stages: tuple[Stage, ...], batch: Batch, keys: Key[Array, " b"]
    ) -> Float[Array, "b h w"]:
        """The CAM C of the true label that seeds are drawn from, at the image's size; the batch's own if it has one."""
        size, network = (batch.images.shape[1], batch.images.shape[2]), model.classifier
        if batch.cams is not None and batch.crop is not None:
            whole = (self.whole_side, self.whole_side) if self.whole_side else size
            grid = network.grid(self.cam.finest, whole)
            return jnp.clip(cropped_maps(jnp.asarray(batch.cams), jnp.asarray(batch.crop), size, grid), 0, 1)
        given = batch.features
        maps = self._cams(model, stages, batch, keys) if given is None else jnp.asarray(given.cams)
        return jax.lax.stop_gradient(score_map(maps, size, "fcam", network.grid(self.cam.finest, size)))

    def _colored(
        self, model: FCAM, cams: Float[Array, "b h w"], batch: Batch, keys: Key[Array, " b"]
    ) -> Float[Array, "b h w"]:
        """What seeds are drawn from: the CAM, filtered by the image's colours where the settings say so."""
        share = _fitted(model).get(COLOR, self.color.share)
        if COLOR not in model.fitted and not self.color.share:
            return cams
        return color_filtered(cams, _raw(batch), keys, self.color, share)

    def judge(self, model: FCAM, batch: Batch) -> Judgement:
        """How good the maps of images are, by what is known without boxes; one device, inference mode."""
        seed_keys, cut_keys, cam_keys = _keys_of_images(jax.random.key(0), batch)
        stages, _, logits = model(jnp.asarray(batch.images), train=False)
        cams = self.seed_source(model, stages, batch, cam_keys)
        many = dataclasses.replace(self.seeds, foreground_count=JUDGED, background_count=JUDGED, dilation=0.0)
        return judgement(logits, draw_seeds(seed_keys, cams, many), _raw(batch), cut_keys)

    def _cams(
        self, model: FCAM, stages: tuple[Stage, ...], batch: Batch, keys: Key[Array, " b"]
    ) -> Float[Array, "b _ _"]:
        images, labels = jnp.asarray(batch.images), jnp.asarray(batch.labels)
        return self.cam(explain(model.classifier, images, stages, labels, keys))

    def whole_maps(self, model: FCAM, batch: Batch) -> Float[Array, "b h w"]:
        """CAMs of the true label at low resolution, in [0, 1], for `Batch.cams`; drawn alike every time."""
        return minmax(jnp.asarray(self.features(model, batch).cams))

    def features(self, model: FCAM, batch: Batch) -> Features:
        """All that the loss takes of a frozen classifier; what a CAM draws, it draws alike every time."""
        stages, scores = model.classifier(jnp.asarray(batch.images), train=False)
        cams = self._cams(model, stages, batch, image_keys(jax.random.key(0), batch))
        return Features(model.taken(stages), scores, cams)

    def localize(self, model: FCAM, batch: Batch) -> Localization:
        """The foreground map S^2: class-agnostic, in [0, 1], not normalised again."""
        _, logits, map_logits = model(jnp.asarray(batch.images), train=False)
        return Localization(jax.nn.softmax(map_logits.astype(jnp.float32))[..., 1], logits)

    def learning_rate_factor(self, path: tuple[Any, ...]) -> float:
        """1 for the decoder, all of which is new; `classifier_factor` for the classifier."""
        return rate_of_layers(path, (("classifier",),), self.classifier_factor)


def judgement(
    logits: Float[Array, "b h w 2"],
    seeds: Int[Array, "b h w"],
    images: UInt8[Array, "b h w 3"],
    keys: Key[Array, " b"],
) -> Judgement:
    """The judgement of map scores, by seeds that they have not learned from and the image's colours."""
    foreground = jax.nn.softmax(logits.astype(jnp.float32))[..., 1]
    return Judgement(jax.vmap(partial_cross_entropy)(logits, seeds), normalized_cut(foreground, images, keys))


def _keys_of_images(rng: Key[Array, ""], batch: Batch) -> tuple[Key[Array, " b"], Key[Array, " b"], Key[Array, " b"]]:
    """Keys of each image's seeds, of its landmarks for the CRF, and of its CAM."""
    keys = image_keys(rng, batch)
    return stream(keys, OfImage.SEEDS), stream(keys, OfImage.LANDMARKS), stream(keys, OfImage.CAM)


def _fitted(model: FCAM) -> dict[str, Float[Array, ""]]:
    """The numbers that the run fits, as they are now; those that bear a term's name are factors on its weight."""
    return {name: one[...] for name, one in model.fitted.items()}


def _raw(batch: Batch) -> UInt8[Array, "b h w 3"]:
    """The images before augmentation."""
    return jnp.asarray(batch.images if batch.raw is None else batch.raw)
