import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from fcam_jax.component import Registry, defaults_of, meanings_of
from fcam_jax.errors import InputError
from fcam_jax.losses import (
    LOSSES,
    DenseCRF,
    Evidence,
    ForegroundBounds,
    LossTerm,
    PixelAlignment,
    Seeds,
    Size,
    Weighted,
    pixel_alignment,
)
from fcam_jax.losses.crf_energy import crf_energy
from fcam_jax.losses.log_barrier import log_barrier
from fcam_jax.losses.partial_cross_entropy import partial_cross_entropy
from fcam_jax.losses.pixel_alignment import foreground_pull

CRF = DenseCRF(form="exact")
TERMS = {"seeds": Weighted(Seeds(), 1.0), "crf": Weighted(CRF, 1.2e-9), "size": Weighted(Size(), 0.1)}


def with_terms(**terms):
    return PixelAlignment(TERMS | terms)


ALIGNMENT = with_terms()


def inputs(side=14, count=2, times=1, **changes):
    """A random batch, every pixel repeated so many times in both directions."""
    rng = np.random.default_rng(0)
    drawn = (
        rng.normal(size=(count, side, side, 2)).astype(np.float32),
        rng.choice([-1, 0, 1], (count, side, side)),
        rng.integers(0, 256, (count, side, side, 3)).astype(np.uint8),
    )
    logits, seeds, images = (array.repeat(times, 1).repeat(times, 2) for array in drawn)
    known = Evidence(
        logits=jnp.asarray(logits),
        maps=jnp.asarray(scipy.special.softmax(logits, axis=-1)),
        seeds=jnp.asarray(seeds),
        images=jnp.asarray(images),
        raw=jnp.asarray(images),
        keys=jax.random.split(jax.random.key(0), count),
        step=jnp.asarray(0),
    )
    return dataclasses.replace(known, **changes)


def loss(settings=ALIGNMENT, step=0, factors=None, **changes):
    """Loss and terms, by a program that is compiled once for settings of the same values."""
    return compiled_loss(vars(inputs(step=jnp.asarray(step), **changes)), tuple(settings.terms.items()), factors or {})


@functools.partial(jax.jit, static_argnums=1)
def compiled_loss(known, terms, factors):
    return pixel_alignment(Evidence(**known), PixelAlignment(dict(terms)), factors)


def test_sum_is_the_weighted_terms():
    scale = 14 / 224

    @jax.jit
    def expected(logits, maps, seeds, raw, keys, **_):
        images = raw.astype(jnp.float32)
        energies = crf_energy(maps, images, keys, sigma_xy=100 * scale, sigma_rgb=15.0, form="exact")
        size = log_barrier(-maps.sum((1, 2)), 1.01**3).mean()
        return partial_cross_entropy(logits, seeds) + 1.2e-9 / scale**4 * energies.mean() + 0.1 * size

    value, terms = loss(step=3 * 188)
    np.testing.assert_allclose(value, expected(**vars(inputs())), rtol=1e-5)
    order = []
    jax.eval_shape(lambda known: order.extend(pixel_alignment(Evidence(**known), ALIGNMENT)[1]), vars(inputs()))
    assert order == ["seeds", "crf", "size"] and terms.keys() == {*order}


@pytest.mark.slow
def test_a_factor_multiplies_the_weight_of_the_term_called_so():
    plain, quarter = loss(), loss(factors={"crf": jnp.float32(0.25), "no_term": jnp.float32(9)})
    np.testing.assert_allclose(plain[0] - quarter[0], 0.75 * 1.2e-9 * plain[1]["crf"], rtol=1e-4)
    assert plain[1] == quarter[1]
    pull = jax.jit(lambda known, factors: foreground_pull(Evidence(**known), ALIGNMENT, factors))
    pulls = [np.asarray(pull(vars(inputs()), factors)) for factors in ({}, {"crf": jnp.float32(0.25)})]
    np.testing.assert_allclose(0.25 * pulls[0], pulls[1], rtol=1e-6)


def test_any_subset_of_terms_runs():
    whole = loss()[1]
    for name in TERMS:
        off = {other: dataclasses.replace(TERMS[other], weight=0.0) for other in TERMS if other != name}
        value, terms = loss(with_terms(**off))
        assert set(terms) == {name}
        np.testing.assert_allclose(terms[name], whole[name], rtol=1e-6)
        np.testing.assert_allclose(value, TERMS[name].weight * terms[name], rtol=1e-6)


def test_a_weight_of_0_leaves_no_trace_in_the_program():
    def program(settings):
        known = inputs()

        def value(maps):
            return pixel_alignment(dataclasses.replace(known, maps=maps), settings)[0]

        return str(jax.make_jaxpr(value)(known.maps))

    off = {name: Weighted(LOSSES[name](), 0.0) for name in LOSSES if name not in TERMS}
    assert program(with_terms(**off)) == program(with_terms())


def test_a_term_counts_from_its_start_to_its_end():
    settings = PixelAlignment({"seeds": Weighted(Seeds(), 2.0, 2, 4)})
    values = [float(loss(settings, step)[0]) for step in range(6)]
    full = 2 * float(loss(settings, 2)[1]["seeds"])
    np.testing.assert_allclose(values, [0, 0, full, full, 0, 0], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("weight_of_sizes", [0.1, 0.0])
def test_a_further_constraint_is_a_term_with_the_schedule_of_the_sizes(weight_of_sizes):
    bounds = ForegroundBounds(lower=0.1, upper=0.3)
    sizes = Weighted(Size(), weight_of_sizes)
    without, _ = loss(with_terms(size=sizes), step=7 * 188)
    value, terms = loss(with_terms(size=sizes, bounds=Weighted(bounds, 0.5)), step=7 * 188)
    expected = jax.jit(lambda maps: log_barrier(bounds.values(maps), 1.01**7).mean())(inputs().maps)
    np.testing.assert_allclose(terms["bounds"], expected, rtol=1e-5)
    np.testing.assert_allclose(value, without + 0.5 * expected, rtol=1e-5)
    assert loss(with_terms(bounds=Weighted(bounds, 0.0)))[1].keys() == loss()[1].keys()


@pytest.mark.slow
def test_crf_weight_means_the_same_pull_at_every_resolution():
    # The same picture, each pixel repeated 3 x 3 times: sums over pairs grow 81-fold, the term must not.
    # Not exact: the copies of a pixel lie up to two pixels apart.
    np.testing.assert_allclose(crf_term(CRF, times=3), crf_term(CRF), rtol=5e-3)


def crf_term(crf, times=1):
    """The term alone, of images of 16 x 16 pixels, each repeated so many times in both directions."""
    return loss(PixelAlignment({"crf": Weighted(crf, 1.0)}), side=16, times=times)[0]


def test_the_released_amplitude_is_six_tenths_of_the_exact_one():
    released = crf_term(dataclasses.replace(CRF, amplitude="released"))
    np.testing.assert_allclose(released, 0.6 * crf_term(CRF), rtol=1e-6)


@pytest.mark.slow
def test_at_half_the_scale_the_term_is_that_of_the_shrunk_map_and_image():
    # Every pixel four times: the shrunk map and image are the small ones, and the term is scaled as theirs is.
    half = crf_term(dataclasses.replace(CRF, scale=0.5), times=2)
    np.testing.assert_allclose(half, crf_term(CRF), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stride", 0),
        ("scale", 0.0),
        ("scale", 1.5),
        ("form", "lattice"),
        ("amplitude", "paper"),
        ("sigma_rgb", 0.0),
        ("kernel", "cuda"),
    ],
)
def test_a_setting_of_the_crf_outside_its_range_is_named(name, value):
    with pytest.raises(InputError, match=rf"^{name} is {value!r}; "):
        dataclasses.replace(CRF, **{name: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": -1.0}, "weight is -1.0; it must be at least 0"),
        ({"weight": float("nan")}, "weight is nan; it must be at least 0"),
        ({"weight": 1.0, "start": -1}, "start is -1; it must be at least 0"),
        ({"weight": 1.0, "start": 3, "end": 3}, "end is 3; it must be after start, which is 3"),
    ],
)
def test_a_weight_or_update_outside_its_range_is_named(settings, message):
    with pytest.raises(InputError, match=f"^{message}"):
        Weighted(Seeds(), **settings)


def test_every_setting_of_every_term_has_a_meaning():
    for component in (*LOSSES.values(), Weighted):
        assert defaults_of(component).keys() <= meanings_of(component).keys(), component
        assert component is Weighted or component() == component(**defaults_of(component))


def test_a_term_of_ones_own_takes_part():
    registry = Registry("term of the loss", LOSSES)

    @registry.register("area")
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Area(LossTerm):
        power: float = 2.0

        def of_images(self, known):
            return (known.maps[..., 1].mean((1, 2)) ** self.power) * known.step

    settings = PixelAlignment({"area": Weighted(registry["area"](power=3.0), 0.5)})
    value, figures = loss(settings, step=4)
    expected = (np.asarray(inputs().maps[..., 1], np.float64).mean((1, 2)) ** 3).mean() * 4
    np.testing.assert_allclose([value, figures["area"]], [0.5 * expected, expected], rtol=1e-5)
    assert list(registry) == [*LOSSES, "area"]
    with pytest.raises(InputError, match="there already"):
        registry.register("crf")(Area)
    with pytest.raises(NotImplementedError, match="LossTerm has neither"):
        LossTerm()(inputs())
