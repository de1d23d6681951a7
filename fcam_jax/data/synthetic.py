"""The embedded data set: weakly supervised localization in small, drawn from a seed, without files or network.

An image holds one smooth body of random shape, size and colour on a textured and cluttered background; its class is
that of a small mark somewhere on the body. Everything but the mark is drawn from one distribution for all classes, so
a classifier looks at the mark, while mask and box are those of the whole body.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from fcam_jax.component import at_least
from fcam_jax.data.source import SPLITS, Record
from fcam_jax.errors import InputError, unknown_name

MIN_SIZE = 32

# Outlines are filled on a finer grid, and cv2 takes points in fractions of a cell.
_OVERSAMPLING = 4
_SHIFT = 4

Plane = Float[np.ndarray, "h w"]
# Channels first while an image is made: numpy is several times faster on long rows than on rows of three.
Planes = Float[np.ndarray, "3 h w"]

# A glyph is positive where the second colour of its mark goes; u, v and their radius r are 1 at the mark's rim.
GLYPHS: tuple[Callable[[Plane, Plane, Plane], Plane], ...] = (
    lambda u, v, r: 0.55 - r,
    lambda u, v, r: 0.3 - np.minimum(abs(u), abs(v)),
    lambda u, v, r: v,
    lambda u, v, r: 0.22 - abs(r - 0.5),
    lambda u, v, r: np.sign(u * v) * np.minimum(abs(u), abs(v)),
    lambda u, v, r: 0.36 - abs(v),
)
_RED, _GREEN, _BLUE = (235, 20, 20), (20, 190, 40), (20, 40, 235)
_YELLOW, _MAGENTA, _CYAN = (250, 225, 10), (235, 20, 215), (10, 220, 240)
# The mark of each class: its glyph and two colours.
_COLOURS = (
    *((_RED, _YELLOW), (_BLUE, _YELLOW), (_GREEN, _MAGENTA), (_CYAN, _RED), (_MAGENTA, _BLUE), (_GREEN, _BLUE)),
    *((_CYAN, _MAGENTA), (_RED, _GREEN), (_YELLOW, _CYAN), (_YELLOW, _MAGENTA), (_GREEN, _YELLOW), (_RED, _BLUE)),
)
MARKS = tuple((k % len(GLYPHS), *colours) for k, colours in enumerate(_COLOURS))


@dataclasses.dataclass(frozen=True)
class Scene:
    """A rendered image, with the shares of each pixel that body and mark cover."""

    image: UInt8[np.ndarray, "h w 3"]
    body: Float[np.ndarray, "h w"]
    mark: Float[np.ndarray, "h w"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Synthetic:
    """Drawn data: no two splits share an image.

    Attributes:
      seed: of all randomness.
      train: number of training images; the classes take turns.
      val: likewise of validation images.
      test: likewise of test images.
      num_classes: the first so many of `MARKS`.
      size: side of the images in pixels.
    """

    seed: int = 0
    train: int = 2000
    val: int = 200
    test: int = 500
    num_classes: int = 8
    size: int = 64

    def __post_init__(self) -> None:
        at_least(self, seed=0, train=1, val=1, test=1, size=MIN_SIZE)
        if not 2 <= self.num_classes <= len(MARKS):
            raise InputError(f"num_classes is {self.num_classes}; it must lie between 2 and {len(MARKS)}")

    def splits(self) -> tuple[str, ...]:
        """All of them."""
        return SPLITS

    def open(self, split: str) -> "SyntheticSource":
        """The records of a split; an image is rendered when it is asked for."""
        if split not in SPLITS:
            raise unknown_name("split of the synthetic data", split, SPLITS)
        return SyntheticSource(self, split)


class SyntheticSource:
    """Marked bodies on textured backgrounds; a record depends on seed, split, index, size and label alone."""

    def __init__(self, settings: Synthetic, split: str):
        self.num_classes = settings.num_classes
        self.class_names: tuple[str, ...] | None = None
        self.truth: tuple[str, ...] = ("boxes", "mask")
        self.left_out: tuple[str, ...] = ()
        self._split, self._size, self._seed = split, settings.size, settings.seed
        self._count: int = getattr(settings, split)
        self.fingerprint = f"synthetic {split} {self._size} {self._count} {self.num_classes} {self._seed}"

    def __len__(self) -> int:
        return self._count

    def labels(self) -> Int[np.ndarray, " n"]:
        """The class of every record."""
        return np.arange(self._count) % self.num_classes

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < self._count:
            raise IndexError(f"synthetic data, split {self._split!r}: no image {index}, there are {self._count}")
        label = int(index) % self.num_classes
        scene = render(np.random.default_rng((self._seed, SPLITS.index(self._split), index)), label, self._size)
        mask = scene.body > 0.5
        return Record(scene.image, label, f"{self._split}/{index:06d}", tight_box(mask)[None], mask)


def render(rng: np.random.Generator, label: int, size: int) -> Scene:
    """An image, `size` pixels wide and high, of a class of `MARKS`; of two classes from one state of `rng`, only the
    pixels of the mark differ.
    """
    glyph, first, second = MARKS[label]
    background = _background(rng, size)
    body = _body_coverage(rng, size)
    image = _blend(background, _body_surface(rng, body, background), body)
    mark, share = _mark_coverage(rng, body > 0.5, glyph)
    light = rng.uniform(0.85, 1.0)
    image = _blend(image, light * _blend(_flat(first), _flat(second), share), mark)
    return Scene(_camera(rng, image), body, mark)


def tight_box(mask: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, " 4"]:
    """Box ``x0, y0, x1, y1`` of a mask with a pixel; as in CUB's files x1, y1 are one past it, but inside the image."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    height, width = mask.shape
    return np.array([columns[0], rows[0], min(columns[-1] + 1, width - 1), min(rows[-1] + 1, height - 1)])


def _background(rng: np.random.Generator, size: int) -> Planes:
    """Regions of two to four textures under uneven light, with clutter."""
    image = _texture(rng, size)
    for _ in range(rng.integers(1, 4)):
        image = _blend(image, _texture(rng, size), _soft(_region(rng, size), float(size)))
    image += rng.uniform(0, 20) * _noise(rng, size, 2) + rng.uniform(2, 12) * _noise(rng, size, size // 2)
    canvas = np.ascontiguousarray(np.clip(image, 0, 255).transpose(1, 2, 0)).astype(np.uint8)
    _draw_clutter(rng, canvas)
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)).astype(np.float32)


def _texture(rng: np.random.Generator, size: int) -> Planes:
    """Two related colours mixed by a pattern, from soft to hard."""
    first, other = _colours(rng, 2)
    second = first + rng.uniform(0.35, 0.8) * (other - first)
    return _blend(_flat(first), _flat(second), 0.5 + 0.5 * np.tanh(rng.uniform(0.6, 3) * _pattern(rng, size)))


def _pattern(rng: np.random.Generator, size: int) -> Plane:
    """Stripes, checks or, half of the time, clouds; a zero-mean field of a size about 1."""
    kind = rng.integers(4)
    if kind == 0:
        return _waves(rng, size)
    if kind == 1:
        return _waves(rng, size) * _waves(rng, size)
    weights = (rng.dirichlet((2, 3, 2)) ** 0.5).tolist()
    return sum(w * _noise(rng, size, cells) for w, cells in zip(weights, (5, 11, 23), strict=True))


def _waves(rng: np.random.Generator, size: int) -> Plane:
    """Slightly bent parallel waves, 4 to 14 over the image."""
    return np.sin(2 * np.pi * rng.uniform(4, 14) * _ramp(rng, size) + rng.uniform(0, 1.5) * _noise(rng, size, 4))


def _region(rng: np.random.Generator, size: int) -> Plane:
    """Signed field of a patch, in image sides: one side of a line, a bar, or islands of noise."""
    kind = rng.integers(3)
    if kind == 0:
        return 0.12 * (_noise(rng, size, 5) - rng.uniform(0.3, 1.2))
    ramp = _ramp(rng, size) - rng.uniform(-0.35, 0.35)
    return ramp if kind == 1 else rng.uniform(0.04, 0.15) - abs(ramp)


def _draw_clutter(rng: np.random.Generator, image: UInt8[np.ndarray, "h w 3"]) -> None:
    """Draw a few strokes and dots of one random colour each into an image."""
    size, unit, count = len(image), 1 << _SHIFT, int(rng.integers(4, 14))
    starts = rng.uniform(0, size, (count, 2))
    ends = starts + rng.normal(0, 0.1 * size, (count, 2))
    widths = size * rng.uniform(0.01, 0.035, count)
    points = (np.rint(places * unit).astype(int).tolist() for places in (starts, ends))
    colours = _colours(rng, count).astype(int).tolist()
    for start, end, width, colour in zip(*points, widths.tolist(), colours, strict=True):
        if rng.random() < 0.6:
            cv2.line(image, start, end, colour, max(1, round(width)), cv2.LINE_AA, _SHIFT)
        else:
            cv2.circle(image, start, round(width * unit), colour, -1, cv2.LINE_AA, _SHIFT)


def _body_coverage(rng: np.random.Generator, size: int) -> Plane:
    """A smooth closed shape with up to three limbs, 10 to 45 % of the image; a few are cut by the image's border."""
    outline = _outline(rng)
    outline *= np.sqrt(rng.uniform(0.10, 0.35) / cv2.contourArea(outline.astype(np.float32)))
    limbs = [_limb(rng, outline) for _ in range(rng.choice(4, p=(0.3, 0.3, 0.25, 0.15)))]
    points = np.concatenate([outline, *(centres for centres, _ in limbs)])
    low, high = points.min(0), points.max(0)
    overhang = 0.12 * (high - low) * (rng.random() < 0.1)
    first, last = 0.03 - low - overhang, 0.97 - high + overhang
    # A body longer than the image has first > last; it goes to the middle.
    centre = np.where(first < last, first + rng.random(2) * (last - first), (first + last) / 2)

    fine = size * _OVERSAMPLING
    unit = fine << _SHIFT
    canvas = np.zeros((fine, fine), np.uint8)
    cv2.fillPoly(canvas, [np.rint((outline + centre) * unit).astype(np.int32)], 255, cv2.LINE_8, _SHIFT)
    for centres, radii in limbs:
        places = np.rint((centres + centre) * unit).astype(int)
        for place, radius in zip(places.tolist(), (radii * unit).tolist(), strict=True):
            cv2.circle(canvas, place, round(radius), 255, -1, cv2.LINE_8, _SHIFT)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _outline(rng: np.random.Generator) -> Float[np.ndarray, "n 2"]:
    """A superellipse of random aspect and squareness with waves of low order on its radius, turned at random."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    aspect, power = rng.uniform(1, 2.1), rng.uniform(1.5, 3.5)
    radius = (abs(np.cos(angle) / aspect) ** power + abs(np.sin(angle)) ** power) ** (-1 / power)
    orders = np.arange(2, 6)
    waves = rng.normal(0, 0.2, 4) / orders * np.cos(angle[:, None] * orders + rng.uniform(0, 2 * np.pi, 4))
    turned = angle + rng.uniform(0, 2 * np.pi)
    return (radius * (1 + waves.sum(1)) * np.stack([np.cos(turned), np.sin(turned)])).T


def _limb(rng: np.random.Generator, outline: Float[np.ndarray, "n 2"]) -> tuple[np.ndarray, np.ndarray]:
    """Centres and radii of the discs of a bent limb, tail, neck or head that starts inside the outline."""
    root = outline[rng.integers(len(outline))]
    reach = np.hypot(*outline.T).mean()
    direction = root / np.hypot(*root)
    bend = rng.normal(0, 0.35) * np.array([-direction[1], direction[0]])
    step = np.linspace(0, 1, 12)[:, None]
    centres = 0.8 * root + reach * rng.uniform(0.3, 0.9) * (step * direction + step**2 * bend)
    return centres, reach * rng.uniform(0.15, 0.32) * (1 + rng.uniform(-0.6, 0.2) * step[:, 0])


def _body_surface(rng: np.random.Generator, body: Plane, background: Planes) -> Planes:
    """A colour unlike the background near the body (the most unlike of four), a shade of it, and smooth shading."""
    size = len(body)
    *candidates, other = _colours(rng, 5)
    around = cv2.dilate(body, np.ones((7, 7), np.uint8)) - body
    nearby = (background * around).sum((1, 2)) / around.sum()
    first = max(candidates, key=lambda colour: ((colour - nearby) ** 2).sum())
    second = first + rng.uniform(0, 0.15) * (other - first)
    roundness = cv2.GaussianBlur(body, (0, 0), 0.09 * size) - 0.6
    light = rng.uniform(10, 30) * roundness + rng.uniform(2, 6) * _noise(rng, size, 3)
    plumage = rng.uniform(0, 8) * (rng.random() < 0.4) * _pattern(rng, size)
    grain = rng.uniform(0, 5) * _noise(rng, size, size // 2)
    return _blend(_flat(first), _flat(second), _soft(_noise(rng, size, 3), 0.8)) + (light + plumage + grain)


def _mark_coverage(rng: np.random.Generator, body: Bool[np.ndarray, "h w"], glyph: int) -> tuple[Plane, Plane]:
    """Coverage of a mark somewhere inside the body, and the share of the second colour in it."""
    size = len(body)
    inside = cv2.distanceTransform(np.pad(body, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1] - 1
    wanted = max(rng.uniform(0.19, 0.27) * np.sqrt(body.sum() / np.pi), 0.05 * size)
    radius = min(float(wanted), float(inside.max()))
    rows, columns = np.nonzero(inside >= radius)
    place = int(rng.random() * len(rows))
    line = np.arange(size, dtype=np.float32)
    x, y = (line - float(columns[place])) / radius, (line[:, None] - float(rows[place])) / radius
    turn = rng.uniform(-0.3, 0.3)
    cosine, sine = float(np.cos(turn)), float(np.sin(turn))
    r = np.hypot(x, y)
    return _soft(1 - r, radius), _soft(GLYPHS[glyph](cosine * x + sine * y, cosine * y - sine * x, r), radius)


def _camera(rng: np.random.Generator, image: Planes) -> UInt8[np.ndarray, "h w 3"]:
    """Slight blur and sensor noise over everything."""
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(1, 3))
    sharp = cv2.GaussianBlur(np.ascontiguousarray(image.transpose(1, 2, 0)), (3, 3), rng.uniform(0.2, 0.6))
    return np.clip(np.rint(sharp + noise.transpose(1, 2, 0)), 0, 255).astype(np.uint8)


def _colours(rng: np.random.Generator, count: int) -> Float[np.ndarray, "n 3"]:
    """RGB colours in [0, 255]: any hue, mostly moderate saturation, any but extreme brightness."""
    hue, saturation, value = rng.random(count), 0.65 * rng.beta(1.5, 2, count), rng.uniform(0.2, 0.95, count)
    pure = np.clip(abs((6 * hue[:, None] + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return (255 * value[:, None] * (1 + saturation[:, None] * (pure - 1))).astype(np.float32)


def _noise(rng: np.random.Generator, size: int, cells: int) -> Plane:
    """Smooth noise of about `cells` bumps a side, of standard deviation about 1."""
    coarse = rng.standard_normal((cells + 1, cells + 1), np.float32) * np.float32(1.3)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def _ramp(rng: np.random.Generator, size: int) -> Plane:
    """The coordinate along a random direction, 0 in the middle, in image sides."""
    line = np.arange(size, dtype=np.float32) / size - 0.5
    turn = rng.uniform(0, 2 * np.pi)
    return line * float(np.cos(turn)) + line[:, None] * float(np.sin(turn))


def _soft(field: Plane, slope: float) -> Plane:
    """Share of each pixel on the positive side of a field that grows by 1 / slope a pixel."""
    return np.clip(0.5 + slope * field, 0, 1)


def _flat(colour) -> Float[np.ndarray, "3 1 1"]:
    return np.asarray(colour, np.float32)[:, None, None]


def _blend(under, over, share: Plane) -> Planes:
    return under + share * (over - under)
