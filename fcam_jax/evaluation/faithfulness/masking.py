"""Images seen through their map: drop, increase and gain of the class's probability, and ADCC."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fcam_jax.cams.score_maps import minmax
from fcam_jax.evaluation.faithfulness.arrays import Explain, batches, check_sizes, explained, images_of, joined
from fcam_jax.evaluation.faithfulness.baseline import baseline_of, checked_baseline
from fcam_jax.evaluation.faithfulness.similarity import pearson
from fcam_jax.evaluation.faithfulness.watched import Images, Score, in_inference, labels_of, measured

Figures = dict[str, Float[np.ndarray, " b"]]


def confidence(
    network: Any,
    images: Any,
    maps: Any,
    labels: Any = None,
    *,
    baseline: Any = 0.0,
    watch: str = "softmax",
    batch_size: int = 32,
) -> Figures:
    """What becomes of the class's probability when the image is seen through its map; two passes an image.

    $$ \\mathrm{average\\_drop} = \\frac{\\max(0, Y - O)}{Y}, \\qquad \\mathrm{increase} = [O > Y], \\qquad
       \\mathrm{average\\_gain} = \\frac{\\max(0, O - Y)}{1 - Y} $$

    Y is the probability p_y(X) of the image, O that of M X + (1 - M) B, with the map M moved and scaled to [0, 1] and
    the baseline B. All three are in [0, 1]: the drop is better low, the others high, and only the means over images are
    compared. A constant map shows the baseline alone. A figure whose divisor is 0 is 0.

    Arguments and errors are those of `insertion_curve`.

    Returns:
      The figures of each image by the three names.

    Reference: Chattopadhay et al., Grad-CAM++, WACV 2018, section 4.1 (drop and increase); Zhang et al., Opti-CAM,
      CVIU 2024 (gain).
    """
    settings = {"baseline": checked_baseline(baseline, images)}
    return measured(_confidence, network, images, maps, labels, watch=watch, batch_size=batch_size, **settings)


def adcc(
    network: Any,
    explain: Explain,
    images: Any,
    labels: Any = None,
    *,
    baseline: Any = 0.0,
    watch: str = "softmax",
    batch_size: int = 32,
) -> Figures:
    """Average drop, coherency and complexity of a CAM, and their harmonic mean.

    $$ \\mathrm{ADCC} = 3 \\Big/ \\Big(\\frac1{\\mathrm{coherency}} + \\frac1{1 - \\mathrm{complexity}} +
       \\frac1{1 - \\mathrm{average\\_drop}}\\Big), $$

    coherency (1 + r) / 2 with the correlation r of the map M, and of the map of the image seen through M; complexity
    the mean of M, moved and scaled to [0, 1]. All are in [0, 1]: ADCC and coherency are better high, the others low.
    ADCC is 0 where one of the three divisors is. A map that is constant has the correlation 0 and the complexity 0.

    Arguments and errors are those of `insertion_curve`, but for

    Args:
      explain: the CAM: images [b, h, w, c] and labels [b] to maps [b, h, w] of their size, or to what has them as
        `maps`; called as it is, so jit it. Always of `batch_size` images.

    Reference: Poppi et al., Revisiting the Evaluation of Class Activation Mapping for Explainability, CVPR Workshops
      2021, Eq. 4 to 6.
    """
    images, given = images_of(images), checked_baseline(baseline, images)
    tree, function = in_inference(network, images)
    labels = labels_of(labels, images, tree, function, batch_size)
    maps, coherency = [], []
    for chosen in batches(len(images), batch_size, "maps"):
        shown, classes = jnp.asarray(images[chosen], jnp.float32), jnp.asarray(labels[chosen])
        found = explained(explain, shown, classes)
        check_sizes(found, shown)
        again = explained(explain, seen(shown, found, given), classes)
        maps.append(np.asarray(found))
        coherency.append(np.asarray((1 + pearson(found, again)) / 2))
    whole = joined(maps, len(images))
    figures = {
        "coherency": joined(coherency, len(images)),
        "complexity": np.asarray(minmax(jnp.asarray(whole)).mean(axis=(1, 2))),
    }
    settings = {"baseline": baseline, "watch": watch, "batch_size": batch_size}
    figures["average_drop"] = confidence(network, images, whole, labels, **settings)["average_drop"]
    parts = np.stack([figures["coherency"], 1 - figures["complexity"], 1 - figures["average_drop"]])
    with np.errstate(divide="ignore"):
        return {"adcc": 3 / (1 / parts).sum(axis=0), **figures}


def seen(images: Images, maps: Float[Array, "b h w"], baseline: str | tuple[float, ...]) -> Images:
    """Images through their maps, scaled to [0, 1], with the baseline where these are 0."""
    masks = minmax(maps)[..., None]
    return masks * images + (1 - masks) * baseline_of(images, baseline)


def _confidence(score: Score, images: Images, maps: Array, keys: Array, *, baseline: Any) -> dict[str, Array]:
    whole, masked = jax.lax.map(score, jnp.stack([images, seen(images, maps, baseline)]))
    return {
        "average_drop": _share(whole - masked, whole),
        "increase": (masked > whole).astype(jnp.float32),
        "average_gain": _share(masked - whole, 1 - whole),
    }


def _share(part: Float[Array, " b"], of: Float[Array, " b"]) -> Float[Array, " b"]:
    return jnp.where(of > 0, jnp.maximum(part, 0) / jnp.where(of > 0, of, 1), 0)
