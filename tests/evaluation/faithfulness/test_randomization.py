"""The sanity check on maps that are the parameters themselves, so that every likeness can be computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.evaluation import faithfulness

IMAGES = np.random.default_rng(0).random((3, 12, 12, 1)).astype(np.float32)
LABELS = np.array([0, 1, 0])


def parameters():
    keys = jax.random.split(jax.random.key(0), 3)
    names = ("bottom", "top", "other")
    return {name: {"kernel": jax.random.normal(key, (12, 12))} for name, key in zip(names, keys, strict=True)}


def explain(given, images, labels):
    """The map of class 0 sees the upper layer, of others the lower."""
    kernel = jnp.where(labels[:, None, None] == 0, given["top"]["kernel"], given["bottom"]["kernel"])
    return kernel * images[..., 0]


def negative(key, values):
    return -values


@pytest.mark.slow
def test_layers_go_one_after_the_other_and_stay_gone():
    found = faithfulness.randomization(
        explain, parameters(), IMAGES, LABELS, layers=["top", "bottom.kernel"], randomize=negative, batch_size=2
    )
    np.testing.assert_allclose(found["spearman"], [[-1, -1], [1, -1], [-1, -1]], atol=1e-5)
    np.testing.assert_allclose(found["ssim"][1, 0], 1, atol=1e-5)
    assert (found["ssim"][0] < 0.5).all()


def test_shuffled_parameters_keep_their_numbers_and_the_likeness_is_scipys():
    given, seen = parameters(), []

    def recorded(values, images, labels):
        seen.append(values)
        return explain(values, images, labels)

    found = faithfulness.randomization(recorded, given, IMAGES, LABELS, layers="top", seed=3)
    whole, after = seen
    for name in ("bottom", "other"):
        np.testing.assert_array_equal(after[name]["kernel"], given[name]["kernel"])
    top, before = np.asarray(after["top"]["kernel"]), np.asarray(whole["top"]["kernel"])
    assert (top != before).mean() > 0.9
    np.testing.assert_array_equal(np.sort(top.ravel()), np.sort(before.ravel()))
    maps = [np.asarray(explain(values, IMAGES, LABELS))[0].ravel() for values in seen]
    assert found["spearman"][0, 0] == pytest.approx(scipy.stats.spearmanr(*maps).statistic, abs=1e-5)
    assert abs(found["spearman"][0, 0]) < 0.5


def test_a_map_that_asks_no_network_stays_what_it_is():
    found = faithfulness.randomization(
        lambda given, images, labels: images[..., 0], parameters(), IMAGES, LABELS, layers=["top", "bottom"]
    )
    for values in found.values():
        np.testing.assert_allclose(values, 1, atol=1e-5)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.bn = nnx.BatchNorm(1, rngs=rngs)
        self.fc = nnx.Linear(1, 144, rngs=rngs)

    def __call__(self, images):
        return self.fc(self.bn(images).mean(axis=(1, 2))).reshape(-1, 12, 12)


@pytest.mark.slow
def test_of_a_module_parameters_alone_are_random_in_a_copy():
    net, seen = Net(nnx.Rngs(0)), []

    def explain_net(model, images, labels):
        seen.append(model)
        return model(images)

    before = np.array(net.fc.kernel[...])
    found = faithfulness.randomization(explain_net, net, IMAGES, LABELS, layers=["fc", "bn"])
    assert found["ssim"].shape == (3, 2)
    np.testing.assert_array_equal(net.fc.kernel[...], before)
    assert all(model.bn.use_running_average for model in seen) and not net.bn.use_running_average
    kernels = [np.asarray(model.fc.kernel[...]) for model in seen]
    np.testing.assert_array_equal(kernels[0], before)
    assert (kernels[1] != before).any() and (kernels[1] == kernels[2]).all()
    np.testing.assert_array_equal(seen[2].bn.mean[...], net.bn.mean[...])


def test_mistakes_are_one_line():
    with pytest.raises(InputError, match=r"^unknown layer 'to'; known: bottom, other, top$"):
        faithfulness.randomization(explain, parameters(), IMAGES, LABELS, layers=["top", "to"])
    with pytest.raises(InputError, match=r"^layers is empty; name those to be randomised, from the top to the bottom$"):
        faithfulness.randomization(explain, parameters(), IMAGES, LABELS, layers=[])
