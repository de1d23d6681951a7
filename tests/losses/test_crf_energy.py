import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcam_jax.losses.crf_energy import crf_energy, landmarks


def plain_energy(probs, image, sigma_xy, sigma_rgb):
    """-sum_k S_k' K S_k by the full pair matrix, in float64."""
    height, width, _ = image.shape
    places = np.stack(np.mgrid[:height, :width], -1).reshape(-1, 2) / sigma_xy
    features = np.concatenate([places, image.reshape(-1, 3) / sigma_rgb], 1).astype(np.float64)
    kernel = np.exp(-((features[:, None] - features[None]) ** 2).sum(-1) / 2)
    flat = probs.reshape(-1, probs.shape[-1]).astype(np.float64)
    return -(flat * (kernel @ flat)).sum(), -2 * (kernel @ flat).reshape(probs.shape)


def example(count, height, width, regions=2, seed=0):
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(np.cumsum(rng.normal(0, 4, (count, height, width, 3)), 1), 2)
    images = np.clip(128 + smooth, 0, 255).astype(np.float32)
    scores = rng.normal(size=(count, height, width, regions)).astype(np.float32)
    return np.asarray(jax.nn.softmax(scores)), images


def energy(probs, images, form, sigma_xy=100.0):
    """Of all pairs ("exact"), or by landmarks of a stride."""
    how = {"form": form} if form == "exact" else {"stride": form}
    keys = jax.random.split(jax.random.key(0), len(images))
    return crf_energy(probs, images, keys, sigma_xy=sigma_xy, sigma_rgb=15.0, **how)


@functools.partial(jax.jit, static_argnames=("form", "sigma_xy"))
def energies_and_slope(probs, images, form, sigma_xy=100.0):
    """The energy of every image, and the gradient of their sum in the maps."""
    energies, pull_back = jax.vjp(lambda probs: energy(probs, images, form, sigma_xy), probs)
    return energies, pull_back(jnp.ones_like(energies))[0]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["exact", 1])
@pytest.mark.parametrize(("height", "width", "regions"), [(12, 12, 2), (9, 14, 3), (5, 7, 1)])
def test_all_pairs_are_summed_up(form, height, width, regions):
    probs, images = example(3, height, width, regions)
    values, gradient = energies_and_slope(probs, images, form, sigma_xy=5.0)
    for i in range(3):
        value, slope = plain_energy(probs[i], images[i], 5.0, 15.0)
        np.testing.assert_allclose(values[i], value, rtol=1e-5)
        np.testing.assert_allclose(gradient[i], slope, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_gradient_is_that_of_the_plain_formula_by_autodiff():
    probs, images = example(1, 8, 10)
    places = np.stack(np.mgrid[:8, :10], -1).reshape(-1, 2).astype(np.float32)
    colours = images.reshape(-1, 3)

    def plain(probs):
        def squares(x):
            return np.square(x[:, None] - x[None]).sum(-1)

        kernel = np.exp(-squares(places) / (2 * 100.0**2) - squares(colours) / (2 * 15.0**2))
        flat = probs.reshape(-1, 2)
        return -jnp.einsum("ik,ij,jk->", flat, kernel, flat)

    expected = jax.jit(jax.grad(plain))(probs)
    np.testing.assert_allclose(energies_and_slope(probs, images, "exact")[1], expected, rtol=1e-4)


@pytest.mark.slow
def test_gradient_is_the_finite_difference_of_the_value():
    # By landmarks it is so in the mean over draws only: see the test of their bias.
    probs, images = example(1, 8, 10)
    direction = np.random.default_rng(1).normal(size=probs.shape).astype(np.float32)
    gradient = np.asarray(energies_and_slope(probs, images, "exact")[1])
    step = np.float32(1e-2)  # the value is quadratic in S, so a central difference is exact but for rounding
    above, below = (
        np.asarray(energies_and_slope(probs + sign * step * direction, images, "exact")[0][0]) for sign in (1, -1)
    )
    np.testing.assert_allclose((above - below) / (2 * step), (gradient * direction).sum(), rtol=2e-3)


@pytest.mark.slow
def test_the_pairs_are_symmetric():
    # d^2 R / dS_i dS_j = -2 K_ij: the change of the gradient along u, projected on v, is that along v projected on u.
    probs, images = example(1, 8, 10)
    u, v = np.random.default_rng(2).normal(size=(2, *probs.shape)).astype(np.float32)
    along_u, along_v = (np.asarray(energies_and_slope(one, images, "exact")[1]) for one in (u, v))
    np.testing.assert_allclose((along_u * v).sum(), (along_v * u).sum(), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["exact", 2])
def test_bfloat16_maps_have_the_energy_of_the_same_values_in_float32(form):
    probs, images = example(2, 16, 16)
    short = jnp.asarray(probs, jnp.bfloat16)
    values, gradient = energies_and_slope(short, images, form)
    expected, slope = energies_and_slope(np.asarray(short, np.float32), images, form)
    assert values.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(gradient, np.float32), slope, rtol=2**-8)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2])
def test_golden_birds(shared, number):
    golden = np.load(shared / "golden" / "dense_crf.npz")
    foreground = golden[f"fg{number}"]
    probs = np.stack([1 - foreground, foreground], -1)[None].astype(np.float32)
    images = golden[f"image{number}"][None].astype(np.float32)
    values, gradient = energies_and_slope(probs, images, "exact")
    np.testing.assert_allclose(values[0], golden[f"loss{number}"], rtol=1e-5)
    np.testing.assert_allclose(-gradient[0] / 2, golden[f"KS{number}"], rtol=1e-4, atol=1e-2)


chosen = jax.jit(landmarks, static_argnums=(2, 3))


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(16, 16), (10, 7), (33, 20)])
def test_landmarks_are_one_pixel_of_every_run_of_similar_brightness(height, width):
    images = example(5, height, width)[1]
    where, weights = map(np.asarray, chosen(jax.random.split(jax.random.key(0), 5), images, 2))
    assert weights.sum() == height * width and where.shape == (5, len(weights))
    for image, places in zip(images.sum(-1), where, strict=True):
        begin = 0
        for top in range(0, height, 8):
            for left in range(0, width, 8):
                square = np.sort(image[top : top + 8, left : left + 8], axis=None)
                for first in range(0, square.size, 4):
                    row, column = divmod(places[begin], width)
                    assert top <= row < top + 8 and left <= column < left + 8
                    assert square[first] <= image[row, column] <= square[first : first + 4][-1]
                    assert weights[begin] == len(square[first : first + 4])
                    begin += 1
        assert begin == len(weights)
    assert len(np.unique(where, axis=0)) > 1


def test_with_blocks_of_one_stratum_landmarks_are_one_pixel_of_every_cell():
    images = example(5, 10, 7)[1]
    where, weights = map(np.asarray, chosen(jax.random.split(jax.random.key(0), 5), images, 4, 1))
    assert where.shape == (5, 6) and int(weights.sum()) == 70
    cells = (where // 7 // 4) * 2 + (where % 7) // 4
    np.testing.assert_array_equal(cells, np.tile(np.arange(6), (5, 1)))


@pytest.mark.slow
def test_landmarks_estimate_the_filtered_map_without_bias():
    probs, images = example(1, 16, 16)
    _, exact = plain_energy(probs[0], images[0], 100.0, 15.0)
    slope = jax.grad(lambda p, k: crf_energy(p, images, k, sigma_xy=100.0, sigma_rgb=15.0, stride=4).sum())
    keys = jax.random.split(jax.random.key(0), 400)
    draws = np.asarray(jax.jit(jax.vmap(slope, (None, 0)))(probs, keys[:, None]))[:, 0]
    error = np.abs(draws.mean(0) - exact)
    standard_error = draws.std(0) / np.sqrt(len(draws))
    # 512 means of 400 draws: the worst of them stays within five standard errors.
    assert (error < 5 * standard_error + 1e-3 * np.abs(exact)).all()


@pytest.mark.slow
def test_an_images_energy_does_not_depend_on_its_batch():
    probs, images = example(4, 12, 12)
    keys = jax.random.split(jax.random.key(0), 4)

    run = jax.jit(functools.partial(crf_energy, sigma_xy=100.0, sigma_rgb=15.0, stride=4))
    part = np.array([2, 0])

    alone, whole = run(probs[part], images[part], keys[part]), np.asarray(run(probs, images, keys))
    np.testing.assert_allclose(alone, whole[part], rtol=1e-6)


@pytest.mark.slow
def test_the_image_is_a_constant():
    probs, images = example(1, 8, 8)
    gradient = jax.jit(jax.grad(lambda x: energy(probs, x, 2).sum()))(images)
    assert not np.asarray(gradient).any()
