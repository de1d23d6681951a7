import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from fcam_jax.errors import InputError
from fcam_jax.losses import gaussian_sum_pallas
from fcam_jax.losses.gaussian_sum import gaussian_sum

SPREAD = PartitionSpec("data")

# The kernels' operations are interpreted here, in both layouts.
FORMS = {
    "xla": functools.partial(gaussian_sum, form="xla"),
    "gpu": functools.partial(gaussian_sum_pallas.gaussian_sum, plan=gaussian_sum_pallas.gpu_plan(), interpret=True),
    "tpu": functools.partial(gaussian_sum_pallas.gaussian_sum, plan=gaussian_sum_pallas.TPU, interpret=True),
}
every_form = pytest.mark.parametrize("form", FORMS)


def plain_sum(points, centres, values):
    """The sum by the matrix of pairs, in float64."""
    points, centres, values = (np.asarray(x, np.float64) for x in (points, centres, values))
    squares = np.square(points[:, :, None] - centres[:, None]).sum(-1)
    return np.exp(-squares / 2) @ values


def example(count, number, centres, columns, features=5, scale=1.0, seed=0):
    """Centres are some of the points, so that no sum is without a near one; values are of both signs."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, scale, (count, number, features)).astype(np.float32)
    values = rng.normal(size=(count, centres, columns)).astype(np.float32)
    return points, points[:, rng.permutation(number)[np.arange(centres) % number]], values


def close(got, points, centres, values):
    """Rounding is judged against the sum of the terms' sizes: terms of both signs may cancel."""
    error = np.abs(np.asarray(got) - plain_sum(points, centres, values))
    np.testing.assert_array_less(error, 1e-5 * plain_sum(points, centres, np.abs(values)) + 1e-30)


@pytest.mark.slow
@every_form
@pytest.mark.parametrize(
    ("count", "number", "centres", "columns", "features"),
    [(3, 100, 37, 3, 2), pytest.param(1, 1200, 530, 2, 5, marks=pytest.mark.long)],
)
def test_is_the_sum_over_all_pairs(form, count, number, centres, columns, features):
    given = example(count, number, centres, columns, features)
    got = jax.jit(FORMS[form])(*given)
    assert got.shape == (count, number, columns) and got.dtype == jnp.float32
    close(got, *given)


@pytest.mark.slow
@pytest.mark.parametrize("plan", [gaussian_sum_pallas.gpu_plan(), gaussian_sum_pallas.TPU])
def test_more_points_and_centres_than_a_program_takes(plan):
    small = dataclasses.replace(plan, rows=1, centres=plan.centres and 128)
    given = example(2, 300, 300, 1)  # three blocks of centres, the last one padded
    close(jax.jit(functools.partial(gaussian_sum_pallas.gaussian_sum, plan=small, interpret=True))(*given), *given)


@every_form
def test_large_features_keep_their_differences(form):
    points, _, values = example(1, 300, 300, 2, scale=50.0)
    # Without a near centre a sum would be the rounding of its exponent alone.
    centres = points + np.random.default_rng(1).normal(0, 0.7, points.shape).astype(np.float32)
    values = np.abs(values)
    np.testing.assert_allclose(jax.jit(FORMS[form])(points, centres, values), plain_sum(points, centres, values), 1e-5)


@every_form
def test_far_centres_add_nothing(form):
    points, centres, values = example(1, 40, 40, 2, features=1)
    function = jax.jit(FORMS[form])
    for distance in (1e4, 1e25):  # the square of the last is not a float32
        np.testing.assert_array_equal(function(points, centres + np.float32(distance), values), 0.0)


@every_form
def test_works_on_each_devices_share(form):
    given = example(4, 60, 40, 1, features=2)
    # Pallas' interpreter cannot be checked; the kernels are checked below.
    close(spread(FORMS[form], check_vma=form == "xla")(*given), *given)


@pytest.mark.parametrize("form", ["auto", "xla"])
def test_memory_is_that_of_points_and_centres(form):
    number = 64**2
    given = example(1, number, number, 2)
    plan = jax.jit(functools.partial(gaussian_sum, form=form)).lower(*given).compile().memory_analysis()
    # Features and sums of a point, in a layout of their own, and the features and values of a centre.
    assert plan.temp_size_in_bytes < 4 * 32 * (number + number)


@pytest.mark.parametrize("form", ["auto", "pallas"])
def test_a_kernel_is_made_for_tpus_without_one(form):
    assert "tpu_custom_call" in lowered("tpu", form, 2)
    assert "tpu_custom_call" in lowered("tpu", form, 3)


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
def test_a_kernel_is_made_for_gpus_without_one():
    try:
        texts = [lowered("cuda", "pallas", columns) for columns in (2, 3)]
    except RuntimeError as error:
        if "No supported GPU devices found" not in str(error):
            raise
        pytest.skip("this JAX makes such a kernel only where it finds a GPU")
    assert all("__gpu$xla.gpu.triton" in text for text in texts)


@pytest.mark.parametrize(("platform", "form"), [("cpu", "auto"), ("cuda", "auto"), ("cpu", "pallas")])
def test_elsewhere_there_is_no_kernel_of_our_own(platform, form):
    assert not re.search("tpu_custom_call|triton", lowered(platform, form, 2))


def lowered(platform, form, columns):
    """The program of a training step's devices, for another platform."""
    traced = spread(functools.partial(gaussian_sum, form=form)).trace(*example(4, 700, 90, columns))
    return traced.lower(lowering_platforms=(platform,)).as_text()


def spread(function, **options):
    """The function of each device's share of the images."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=(SPREAD,) * 3, out_specs=SPREAD, **options))


def test_unknown_forms_are_refused_with_the_known_ones():
    with pytest.raises(InputError, match="unknown form of the Gaussian sum 'lattice'; known: auto, pallas, xla"):
        jax.eval_shape(functools.partial(gaussian_sum, form="lattice"), *example(1, 4, 4, 2))
