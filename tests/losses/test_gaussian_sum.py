import functools

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
    "gpu": functools.partial(gaussian_sum_pallas.gaussian_sum, plan=gaussian_sum_pallas.GPU, interpret=True),
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


@every_form
@pytest.mark.parametrize(
    ("count", "number", "centres", "columns", "features"),
    [(1, 49, 49, 2, 5), (3, 100, 37, 1, 5), (2, 30, 201, 3, 5), (1, 600, 530, 2, 2), (2, 1, 1, 5, 1)],
)
def test_is_the_sum_over_all_pairs(form, count, number, centres, columns, features):
    given = example(count, number, centres, columns, features)
    got = jax.jit(FORMS[form])(*given)
    assert got.shape == (count, number, columns) and got.dtype == jnp.float32
    close(got, *given)


@every_form
def test_more_points_and_centres_than_a_program_takes(form):
    given = example(1, 4200, 600, 2)
    close(jax.jit(FORMS[form])(*given), *given)


@every_form
def test_large_features_keep_their_differences(form):
    points, _, values = example(1, 300, 300, 2, scale=50.0)
    # Without a near centre a sum would be the rounding of its exponent alone.
    centres = points + np.random.default_rng(1).normal(0, 0.7, points.shape).astype(np.float32)
    values = np.abs(values)
    np.testing.assert_allclose(jax.jit(FORMS[form])(points, centres, values), plain_sum(points, centres, values), 1e-5)


@every_form
def test_far_centres_add_nothing(form):
    points, centres, values = example(1, 40, 40, 2)
    got = np.asarray(jax.jit(FORMS[form])(points, centres + np.float32(1e4), values))
    np.testing.assert_array_equal(got, 0.0)
    got = np.asarray(jax.jit(FORMS[form])(points, centres + np.float32(1e25), values))
    np.testing.assert_array_equal(got, 0.0)


@every_form
def test_works_on_each_devices_share(form):
    given = example(4, 60, 40, 2)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.jit(jax.shard_map(FORMS[form], mesh=mesh, in_specs=(SPREAD,) * 3, out_specs=SPREAD))
    close(spread(*given), *given)


@pytest.mark.parametrize("form", ["auto", "xla"])
def test_memory_is_that_of_points_and_centres(form):
    number = 64**2
    given = example(1, number, number, 2)
    plan = jax.jit(functools.partial(gaussian_sum, form=form)).lower(*given).compile().memory_analysis()
    # Features and sums of a point, in a layout of their own, and the features and values of a centre.
    assert plan.temp_size_in_bytes < 4 * 32 * (number + number)


@pytest.mark.parametrize("form", ["auto", "pallas"])
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_a_kernel_is_made_for_tpus_without_one(form, columns):
    text = lowered("tpu", form, columns)
    assert "tpu_custom_call" in text


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
def test_a_kernel_is_made_for_gpus_without_one(columns):
    try:
        text = lowered("cuda", "pallas", columns)
    except RuntimeError as error:
        if "No supported GPU devices found" not in str(error):
            raise
        pytest.skip("this JAX makes a kernel only for a GPU that it knows")
    assert "__gpu$xla.gpu.triton" in text


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_other_platforms_have_no_kernel_of_their_own(platform):
    assert "custom_call" not in lowered(platform, "auto", 2)


def lowered(platform, form, columns):
    given = example(2, 700, 90, columns)
    traced = jax.jit(functools.partial(gaussian_sum, form=form)).trace(*given)
    return traced.lower(lowering_platforms=(platform,)).as_text()


def test_the_kernels_form_is_interpreted_on_a_cpu():
    given = example(1, 20, 30, 2)
    close(jax.jit(functools.partial(gaussian_sum, form="pallas"))(*given), *given)


def test_unknown_forms_are_refused_with_the_known_ones():
    with pytest.raises(InputError, match="unknown form of the Gaussian sum 'lattice'; known: auto, pallas, xla"):
        gaussian_sum(*example(1, 4, 4, 2), form="lattice")
