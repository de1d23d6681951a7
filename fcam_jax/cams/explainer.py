"""CAMs of any Flax network as it is: from a model and its layers to maps of the images' size."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from fcam_jax.cams.any_network import AnyNetwork, any_network
from fcam_jax.cams.contract import ActivationMap, Network, PlacedNetwork
from fcam_jax.cams.doubts import of_constant, of_range
from fcam_jax.cams.running import How, Stages, maps_of, runner, seen
from fcam_jax.cams.score_maps import CONVENTIONS
from fcam_jax.cams.tapped import Call
from fcam_jax.cams.targets import Wanted, as_target
from fcam_jax.component import at_least, defaults_of, known
from fcam_jax.data.arrays import array_of
from fcam_jax.data.arrays import known as is_known
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.models.classifier import check_images
from fcam_jax.models.fcam import FCAM
from fcam_jax.runtime.progress import progress_bar

_BRIGHTNESS = (1.0, 0.9, 1.1)  # factors of the variants of an image, as pytorch-grad-cam's


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Maps of images, and what the network says of them.

    Attributes:
      maps: in [0, 1], of the images' size: [b, y, x], of volumes [b, z, y, x].
      scores: the network's output, as it is.
      labels: the classes that are explained, given or predicted; None where the target has none.
    """

    maps: Float[Array, "b ..."]
    scores: Any
    labels: Int[Array, "b ..."] | None


class Explainer:
    """A CAM of a network, called on images; the network that is given is never changed.

    Args:
      cam: the CAM with its settings. `GradCAM(model, ...)` is short for `Explainer(GradCAM(), model, ...)`, and takes
        the CAM's settings among the others.
      model: an NNX module; a Linen module and its variables as a pair; or a `Network`, such as a `Classifier`.
      target_layers: modules of the model, or their names (`cams.list_layers`). The maps of several are fused, as by
        `fusion.fuse`. A `Network` needs none, and takes the names of its stages ("stage4") in place of layers.
      reshape: from a layer's output to a map [b, h, w, c], where it is none: `cams.tokens(prefix=1)`,
        `cams.channels_first`, or a function that moves values; a list has one for each layer.
      preprocess: from the images to what the network takes; by default they are taken as they are.
      call: the network's output for a module (of Linen: a bound one) and inputs. By default the module is called, with
        `train=False`, `deterministic=True` and the like where its signature has them.
      batch_size: images that are computed at once.
      aug_smooth: the mean of the maps of six variants: the images and their mirror images, at three brightnesses.
      convention: how maps are brought to the images' size, see `score_map`.

    Raises:
      InputError: whatever of it cannot be used, in one line.
    """

    def __init__(
        self,
        cam: ActivationMap,
        model: Any,
        target_layers: Any = (),
        *,
        reshape: Any = None,
        preprocess: Callable[[Any], Any] | None = None,
        call: Call | None = None,
        batch_size: int = 32,
        aug_smooth: bool = False,
        convention: str = "protocol",
    ):
        self.cam, self.batch_size, self.aug_smooth, self.convention = cam, batch_size, aug_smooth, convention
        at_least(self, batch_size=1)
        known(self, convention=CONVENTIONS)
        model = model.classifier if isinstance(model, FCAM) else model
        layers = [target_layers] if isinstance(target_layers, str | nnx.Module) else list(target_layers)
        self._own = model if isinstance(model, Network) else None  # it takes RGB in [0, 255]
        if self._own is not None and (preprocess or call):
            raise InputError(f"{type(model).__name__} normalizes RGB in [0, 255] itself: leave preprocess and call out")
        self._preprocess = preprocess
        self.network: Network
        if self._own is not None and all(isinstance(one, str) and one.startswith("stage") for one in layers):
            self.network = self._own
        elif not layers:
            cam.check(model)
            raise InputError(
                "target_layers is missing: name the layer whose map explains, such as the last one before the pooling "
                "(fc.cams.list_layers(model))"
            )
        else:
            self.network = any_network(model, layers, reshape, call or (_whole if self._own is not None else None))
            self._preprocess = preprocess if self._own is None else self._own.normalize
        if cam.whole and isinstance(self.network, AnyNetwork) and self._own is not None:
            raise InputError(f"{cam.title} is {cam.whole}: leave target_layers out")
        cam.check(self.network)
        self._names: tuple[Any, ...] = tuple(layers)
        self._followed: dict[tuple[int, ...], tuple[Network, Stages, Any]] = {}

    def __call__(self, images: Any, targets: Any = None, *, keys: Any = None) -> Explanation:
        """Maps of a batch of images.

        Args:
          images: [b, y, x, c], or volumes [b, z, y, x, c], with any number of channels.
          targets: what is explained, an entry for every image: labels, a target (`cams.Probability`,
            `cams.Segmentation` and so on), or a function of an image's output; by default the predicted classes.
          keys: a key for every image, for the CAMs that draw; by default of the image's place in the batch.

        Raises:
          InputError: images or targets do not fit the network, or a layer cannot explain them.
        """
        images = self._checked(images)
        batches = list(self._batches(len(images)))
        first = self._inputs(jnp.asarray(images[batches[0]]))
        if self._own is None:
            of_range(first, images.dtype, self._preprocess is not None)
        network, stages, outputs = self._prepared(first)
        wanted = as_target(targets).of_batch(_for(len(images), outputs))
        if keys is None:
            keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(len(images)))
        how = How(self.cam, stages, images.shape[1:-1], self.convention)
        found = []
        with progress_bar(f"{self.cam.title} of {len(images)} image(s)", len(images), "image") as bar:
            for places in batches:
                given = jnp.asarray(images[places]), *jax.tree.map(lambda leaf, at=places: leaf[at], (wanted, keys))
                found.append(self._of_batch(how, network, *given))
                bar.update(len(np.unique(places)))
        maps, scores, labels = jax.tree.map(lambda *parts: jnp.concatenate(parts)[: len(images)], *found)
        if (flat := _flat(maps)).any():
            places = batches[int(flat.argmax()) // len(batches[0])]
            of_batch, drawn = jax.tree.map(lambda leaf: leaf[places], (wanted, keys))
            of_constant(how, network, self._inputs(jnp.asarray(images[places])), of_batch, drawn, flat)
        return Explanation(maps, scores, labels)

    def _checked(self, images: Any) -> Any:
        images = array_of(images, "images")
        if not is_known(images):
            raise InputError("maps are not computed within a compiled function: call the explainer outside of it")
        if self._own is not None:
            check_images(images)
        elif images.ndim not in (4, 5):
            cure = {2: "[None, ..., None]", 3: "[None], or [..., None] of grey images"}.get(images.ndim, "")
            raise InputError(
                f"images have the shape {images.shape}; it must be (images, height, width, channels), or of volumes "
                f"(images, depth, height, width, channels){': images' + cure if cure else ''}"
            )
        return images

    def _batches(self, count: int) -> Iterator[np.ndarray]:
        """Places of the images in batches of one size; the last image fills up the last one."""
        size = min(self.batch_size, count)
        for start in range(0, count, size):
            yield np.minimum(np.arange(start, start + size), count - 1)

    def _inputs(self, images: Array) -> Array:
        """What `network` takes."""
        if self._preprocess is None:
            return images if self.network is self._own else images.astype(jnp.float32)
        return jnp.asarray(array_of(self._preprocess(images), "images after preprocess"), jnp.float32)

    def _prepared(self, inputs: Array) -> tuple[Network, Stages, Any]:
        """For inputs of a shape: the network, its stages from fine to coarse, and the shapes of its output."""
        if inputs.shape not in self._followed:
            shape = jax.ShapeDtypeStruct(inputs.shape, inputs.dtype)
            if isinstance(self.network, AnyNetwork):
                outputs, maps = self.network.shapes(shape)
                cells = [one.shape[1:-1] for one in maps]
                order = sorted(range(len(cells)), key=lambda place: -int(np.prod(cells[place])))
                network = dataclasses.replace(self.network, grids=tuple(self._grid(one, shape) for one in cells))
                self._followed[inputs.shape] = network, tuple(order), outputs
            else:
                keys = jax.random.split(jax.random.key(0), len(inputs))
                outputs = jax.eval_shape(lambda images: seen(self.network, images, None, keys)[1], shape)
                self._followed[inputs.shape] = self.network, self._names, outputs
        return self._followed[inputs.shape]

    def _grid(self, cells: tuple[int, ...], inputs: jax.ShapeDtypeStruct) -> Any:
        """Where cells lie in the image, as a function of its size: as those of a stage of the same size, if one has."""
        own = self._own
        if not isinstance(own, PlacedNetwork):
            return None
        map_of = getattr(own, "map_of", lambda stage: stage)
        shapes = jax.eval_shape(lambda values: [map_of(stage) for stage in own.stages(values)], inputs)
        same = [place for place, one in enumerate(shapes) if one.shape[1:-1] == cells]
        return functools.partial(own.grid, same[-1]) if same else None

    def _of_batch(self, how: How, network: Network, images: Array, wanted: Wanted, keys: Array) -> Any:
        """Maps, outputs and labels of one batch; of its variants, the mean of the maps."""
        run = runner(network)
        maps, outputs, labels = maps_of(run, how, network, self._inputs(images), wanted, keys, groups=True)
        if not self.aug_smooth:
            return maps, outputs, labels
        wanted = wanted.completed(outputs)
        turned = wanted.mirrored(images.shape[-2])
        for mirrored in (False, True):
            for factor in _BRIGHTNESS[not mirrored :]:
                variant = factor * (jnp.flip(images, axis=-2) if mirrored else images)
                given = self._inputs(variant), turned if mirrored else wanted, keys
                more, _, _ = maps_of(run, how, network, *given, groups=True)
                maps += jnp.flip(more, axis=-1) if mirrored else more
        return maps / (2 * len(_BRIGHTNESS)), outputs, labels


def explainer_of(kind: type[ActivationMap], model: Any, target_layers: Any, settings: Mapping[str, Any]) -> Explainer:
    """An explainer by a CAM's class, with settings of both. Raises InputError: neither has a setting of such a name."""
    of_cam, of_explainer = defaults_of(kind), _SETTINGS
    if unknown := sorted(settings.keys() - of_cam.keys() - of_explainer):
        raise unknown_name(f"setting of {kind.__name__}:", unknown[0], [*of_cam, *of_explainer])
    cam = kind(**{name: value for name, value in settings.items() if name in of_cam})
    return Explainer(
        cam, model, target_layers, **{name: value for name, value in settings.items() if name in of_explainer}
    )


_SETTINGS = {
    name for name, one in inspect.signature(Explainer.__init__).parameters.items() if one.kind is one.KEYWORD_ONLY
}


def _whole(network: Any, inputs: Array) -> Array:
    """The class scores of a `Network`."""
    stages = network.stages(inputs)
    return network.score(stages[-1], len(stages) - 1)


def _for(count: int, outputs: Any) -> Any:
    """Shapes of so many images' outputs, from those of a batch."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape[1:]), leaf.dtype), outputs)


def _flat(maps: Array) -> np.ndarray:
    """Which maps are constant."""
    values = np.asarray(maps).reshape(len(maps), -1)
    return values.min(axis=1) == values.max(axis=1)
