"""GC-Net: a shape, inside of which a fixed classifier finds the class, and outside of which it finds none."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.contract import Cam, Target
from fcam_jax.component import at_least, known
from fcam_jax.errors import InputError
from fcam_jax.losses.classification import cross_entropy
from fcam_jax.methods.classifier import ByCam, ClassifierTraining, Outcome
from fcam_jax.methods.contract import image_keys
from fcam_jax.models.classifier import Classifier, Images
from fcam_jax.models.encoder import At, Encoder, Keys, Stage, unchanged
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import advising, load_classifier
from fcam_jax.types import DATA_AXIS, Batch, Localization

_SHARPNESS = 10.0  # of the edge before training
_LEAST_SIDE = 0.02  # of a shape, in shares of the image's
_NUMBERS = {"ellipse": 5, "rectangle": 4}  # that describe a shape

Shapes = Float[Array, "b n"]  # centre across and down, width, height and, of an ellipse, rotation; in [0, 1]


class ShapeHead(WGAP):
    """Global average pooling and one linear layer, whose sigmoid describes a shape."""

    def __init__(self, features: int, num_classes: int, *, shape: str, **of_layers: Any):
        super().__init__(features, _NUMBERS[shape], **of_layers)
        self.num_classes = num_classes  # of the classifier beside it


class ShapeNetwork(Classifier):
    """A network that finds a shape, and beside it a classifier, which has the class scores and does not learn."""

    def __init__(self, encoder: Encoder, head: ShapeHead, judge: Classifier):
        super().__init__(encoder, head)
        self.judge = judge
        self.sharpness = nnx.Param(jnp.full((), _SHARPNESS))

    def __call__(
        self, images: Images, *, train: bool, rng: Keys = None, at: At = unchanged
    ) -> tuple[tuple[Stage, ...], Float[Array, "b k"]]:
        """The stages of the network that finds shapes, and the classifier's scores, in inference mode."""
        stages, _ = super().__call__(images, train=train, rng=rng, at=at)
        return stages, self.judge(images, train=False)[1]

    def shapes(self, stages: tuple[Stage, ...]) -> Shapes:
        """The shape of every image."""
        return jax.nn.sigmoid(self.head(*self.read(stages)))

    def score(self, features: Stage, stage: int, **how: Any) -> Float[Array, "b k"]:
        """Refused: its stages have no class scores."""
        raise InputError("the stages of GC-Net make a shape and no class scores, so that no CAM explains them")

    def activation(self, features: Float[Array, "b h w c"], labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
        """Refused, as `score`."""
        return self.score(features, -1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GCNet(ClassifierTraining):
    """A shape for every image by a fixed classifier f; its mask m is the map, that of any class.

    $$ L = \\mathrm{CE}(f(X \\odot m), y) + \\ln K - H(\\mathrm{softmax} f(X \\odot (1 - m))) + w_a\\, w h $$

    With K classes, H the entropy, X the normalised image, and w, h the shape's sides; means over the global batch.

    Attributes:
      classifier: weights of the fixed classifier, of the same encoder and the data set's classes, as for model.init.
      shape: "ellipse", or "rectangle", which is not turned.
      area_weight: of the area; 1 in the released program where a network draws the mask.

    Raises:
      InputError: from `load`, where no classifier is given, or one that does not fit.

    Differs from: the released program, which puts 5.3 for ln K, and on VGG16 has fully connected layers. The mask that
      a network draws is left out. What a map shows is the mask; the authors take the box around the shape.

    Reference: Lu et al., Geometry constrained weakly supervised object localization, ECCV 2020, section 3; released
      program.
    """

    title = "GC-Net"
    by_cam = False
    bias_factor = 2.0
    trainable = nnx.All(nnx.Param, lambda path, _: path[0] != "judge")
    classifier: str = ""
    shape: str = "ellipse"
    area_weight: float = 2.5

    def __post_init__(self) -> None:
        known(self, shape=_NUMBERS)
        at_least(self, area_weight=0)

    def head(self, encoder: Encoder, num_classes: int, **of_layers: Any) -> ShapeHead:
        return ShapeHead(encoder.channels[-1], num_classes, shape=self.shape, **of_layers)

    def extend(self, network: Classifier, **of_layers: Any) -> ShapeNetwork:
        """With the classifier, whose weights are random yet."""
        assert isinstance(network.head, ShapeHead)
        head = WGAP(network.encoder.channels[-1], network.head.num_classes, **of_layers)
        return ShapeNetwork(network.encoder, network.head, Classifier(nnx.clone(network.encoder), head))

    def load(self, network: Classifier) -> None:
        assert isinstance(network, ShapeNetwork)
        what = "classifier.gcnet.classifier"
        if not self.classifier:
            raise InputError(
                f"{what} is empty; give the weights of a classifier of this encoder and these classes, such as what "
                "`fcam export` writes of a run of classifier.method=cam"
            )
        advice = f"give {what} of the run's encoder and classes"
        with advising(encoder=f"{advice}, or model.encoder={{}}", head=advice):
            load_classifier(network.judge, self.classifier, keep_head=True)

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """The loss over the global batch; the classifier's scores of what is inside; "inside", "outside" and "area"."""
        assert isinstance(model, ShapeNetwork)
        images, labels, judge = jnp.asarray(batch.images), jnp.asarray(batch.labels), model.judge
        stages, _ = model(images, train=True, rng=image_keys(rng, batch))
        shapes = model.shapes(stages)
        masks = mask_of(shapes, model.sharpness[...], *map(_evenly, images.shape[1:3]))[..., None]
        shown = judge.normalize(images)
        parts = jnp.concatenate([shown * masks, shown * (1 - masks)])
        scores = judge.score(judge.stages(parts)[-1], len(judge.encoder.channels) - 1)
        inside, outside = jnp.split(scores, 2)
        terms = dict(zip(("inside", "outside", "area"), losses(inside, outside, labels, shapes), strict=True))
        terms = jax.lax.pmean(terms, DATA_AXIS)
        return terms["inside"] + terms["outside"] + self.area_weight * terms["area"], inside, terms

    def localize(self, model: Classifier, batch: Batch, by_cam: ByCam) -> Localization:
        """The mask, not normalised again, and the classifier's scores."""
        assert isinstance(model, ShapeNetwork)
        stages, logits = model(jnp.asarray(batch.images), train=False)
        places = map(_evenly, batch.images.shape[1:3])
        return Localization(mask_of(model.shapes(stages), model.sharpness[...], *places), logits)

    def seed_maps(self, target: Target, cam: Cam) -> Float[Array, "b _ _"]:
        network, of_cam = target.network, target.at(cam.finest)
        assert isinstance(network, ShapeNetwork) and of_cam.grid is not None
        places = map(jnp.asarray, of_cam.grid.centers((of_cam.map.shape[1], of_cam.map.shape[2])))
        return mask_of(network.shapes(target.stages), network.sharpness[...], *places)


def losses(
    inside: Float[Array, "b k"], outside: Float[Array, "b k"], labels: Int[Array, " b"], shapes: Shapes
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Cross-entropy inside, what the entropy outside lacks to ln K, and the area: means over these images."""
    log_shares = jax.nn.log_softmax(outside)
    entropy = -(jnp.exp(log_shares) * log_shares).sum(axis=-1)
    certain = jnp.log(outside.shape[-1]) - entropy
    return cross_entropy(inside, labels).mean(), certain.mean(), (shapes[:, 2] * shapes[:, 3]).mean()


def mask_of(
    shapes: Shapes, sharpness: Float[Array, ""], rows: Float[Array, " h"], columns: Float[Array, " w"]
) -> Float[Array, "b h w"]:
    """The masks of shapes at some rows and columns, in shares of the image's height and width.

    $$ m = \\tfrac12 - \\tfrac1\\pi \\arctan(s (q - 1)), \\quad q = \\frac{4 u^2}{w^2} + \\frac{4 v^2}{h^2}, \\quad
       u = d_x \\cos\\varphi + d_y \\sin\\varphi, \\quad v = d_x \\sin\\varphi - d_y \\cos\\varphi $$

    With d the distance from the centre, s the sharpness, and the angle (r - 1/2) pi; a rectangle, described by four
    numbers, has q = 2 max(|d_x| / w, |d_y| / h). It is 1/2 on the edge. Sides are at least .02.

    Reference: Lu et al., ECCV 2020, section 3.2; released program.
    """
    x, y, width, height, *turned = (one[:, None, None] for one in shapes.T)
    dx, dy = columns - x, rows[:, None] - y
    width, height = _at_least(width), _at_least(height)
    if turned:
        angle = (turned[0] - 0.5) * jnp.pi
        u, v = dx * jnp.cos(angle) + dy * jnp.sin(angle), dx * jnp.sin(angle) - dy * jnp.cos(angle)
        form = 4 * (u / width) ** 2 + 4 * (v / height) ** 2
    else:
        form = 2 * jnp.maximum(jnp.abs(dx) / width, jnp.abs(dy) / height)
    return 0.5 - jnp.arctan(sharpness * (form - 1)) / jnp.pi


def _at_least(side: Float[Array, "b 1 1"]) -> Float[Array, "b 1 1"]:
    """A side that is large enough; a smaller one learns as it would there, so that it can grow again."""
    return side + jax.lax.stop_gradient(jnp.maximum(side, _LEAST_SIDE) - side)


def _evenly(count: int) -> Float[Array, " n"]:
    """Places of pixels from 0 to 1."""
    return jnp.linspace(0, 1, count)
