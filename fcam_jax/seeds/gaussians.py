"""Pseudo masks out of score maps: what is high in a map, or within a Gaussian on the ring where the map is middling."""

import cv2
import numpy as np
from jaxtyping import Bool, Float

from fcam_jax.data.arrays import array_of
from fcam_jax.errors import InputError

_RING = (0.1, 0.5)  # values of the ring
_LEAST_AREA = 20  # pixels within a contour that counts
_SHRINKING = 10  # what second moments are divided by
_MOST_CORRELATED = 0.999  # of the axes of a Gaussian, so that a line has one, too


def pseudo_mask(
    score_map: np.ndarray, foreground: float = 0.25, background: float = 0.01
) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Where the object of a map p is taken to be, and where that is undecided.

    $$ t = [p > f] \\lor [G > f], \\qquad \\text{undecided where not } t \\text{ and } p \\geq b $$

    With G of `ring_gaussians`, f the foreground's threshold and b the background's.

    Raises:
      InputError: the map is no matrix of numbers in [0, 1].

    Differs from: the released program, which rounds p and G to 8 bits.

    Reference: Wei et al., Shallow feature matters, CVPR 2021, section 3.3; released program.
    """
    given = np.asarray(array_of(score_map, "score_map"), np.float32)
    if given.ndim != 2 or not (given.min(initial=0) >= 0 and given.max(initial=0) <= 1):
        raise InputError(f"score_map of shape {given.shape} must be (height, width), of numbers in [0, 1]")
    found = (given > foreground) | (ring_gaussians(given) > foreground)
    return found, ~found & (given >= background)


def ring_gaussians(score_map: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The highest of the Gaussians on the contours of a map's ring, 0 without any.

    The ring is w = p where .1 <= p <= .5, and 0 elsewhere. Every contour of w > 0, outer or inner, that holds at least
    20 pixels has a Gaussian of a tenth of the second moments of w within it, so that it marks the core.

    Reference: Wei et al., CVPR 2021, section 3.3; released program.
    """
    ring = np.where((score_map >= _RING[0]) & (score_map <= _RING[1]), score_map, 0).astype(np.float64)
    contours, _ = cv2.findContours((ring > 0).astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    highest = np.zeros(ring.shape)
    for contour in contours:
        if cv2.contourArea(contour) >= _LEAST_AREA:
            filled = cv2.drawContours(np.zeros(ring.shape, np.uint8), [contour], -1, 1, cv2.FILLED)
            np.maximum(highest, gaussian(moments(ring * filled), ring.shape), out=highest)
    return highest


def moments(weights: Float[np.ndarray, "h w"]) -> tuple[float, float, float, float, float]:
    """Means across and down of some weights, and a tenth of their variances across and down and of the covariance."""
    share = weights / weights.sum()
    down, across = np.indices(share.shape)
    x, y = float((share * across).sum()), float((share * down).sum())
    dx, dy = across - x, down - y
    spread = (float((share * product).sum()) / _SHRINKING for product in (dx * dx, dy * dy, dx * dy))
    xx, yy, xy = spread
    return x, y, xx, yy, xy


def gaussian(of: tuple[float, float, float, float, float], shape: tuple[int, ...]) -> Float[np.ndarray, "h w"]:
    """The Gaussian of means and moments, 1 at its centre.

    $$ G = \\exp\\Big({-\\tfrac{1}{2 (1 - s_{xy}^2 / s_x s_y)}} \\Big(
       \\frac{d_x^2}{s_x} - \\frac{2 d_x d_y s_{xy}}{s_x s_y} + \\frac{d_y^2}{s_y}\\Big)\\Big) $$
    """
    x, y, xx, yy, xy = of
    down, across = np.indices(shape)
    dx, dy = across - x, down - y
    tied = min(xy * xy / (xx * yy), _MOST_CORRELATED)
    quadratic = dx**2 / xx - 2 * dx * dy * xy / (xx * yy) + dy**2 / yy
    return np.exp(-quadratic / (2 * (1 - tied)))
