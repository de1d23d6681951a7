"""TriLite's form: reference values of its losses, the head, what is trained, and its map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from at_once import at_once, in_inference
from flax import nnx
from on_tokens import (
    WIDTH,
    assert_alike_on_one_device_and_on_four,
    method_of,
    of_published,
    seeds_of_fcam,
    tiny,
    unchanged_parts,
    under,
)
from one_device import on_one_device, parameters
from tiny_stages import CLASSES, Tiny, batch

from fcam_jax.cams import CAMS
from fcam_jax.cams.fusion import fused
from fcam_jax.cams.score_maps import minmax, resize_bilinear, score_map
from fcam_jax.errors import InputError
from fcam_jax.losses.classification import cross_entropy
from fcam_jax.methods.classifier import SeedMaps
from fcam_jax.methods.frozen import LOST
from fcam_jax.methods.sat import SAT
from fcam_jax.methods.trilite import BACKGROUND, FOREGROUND, TriLite, TriLiteHead, of_regions, other_class
from fcam_jax.methods.tscam import TSCAM
from fcam_jax.models import ENCODERS
from fcam_jax.models.classifier import Classifier

# Reference values computed with NumPy alone: `trilite_*`, of 4 x 4 patches with five features and three classes.
REGION_LOGITS = 2 * np.sin(0.47 * np.arange(48) + 0.2).reshape(3, 4, 4)
TOKENS = np.sin(0.31 * np.arange(80) + 0.7).reshape(1, 4, 4, 5)
CLASS_WEIGHTS = np.sin(0.8 * np.arange(15) + 0.1).reshape(3, 5)
FOREGROUND_LOSS, BACKGROUND_LOSS = 1.30236461, 0.37478179


def test_both_losses_are_the_recorded_ones():
    def losses(scores, tokens):
        logits, label = of_regions(jax.nn.softmax(scores), tokens) @ CLASS_WEIGHTS.T, jnp.array([1])
        return cross_entropy(logits[:, FOREGROUND], label), other_class(logits[:, BACKGROUND], label)

    given = REGION_LOGITS.transpose(1, 2, 0)[None], TOKENS
    foreground, background = at_once(losses, *(np.asarray(one, np.float32) for one in given))
    np.testing.assert_allclose(foreground, FOREGROUND_LOSS, atol=1e-5)
    np.testing.assert_allclose(background, BACKGROUND_LOSS, atol=1e-5)


@pytest.mark.slow
def test_a_region_that_is_nowhere_has_no_features_and_one_that_is_everywhere_their_mean():
    features = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3, 4)), jnp.float32)
    regions = jnp.zeros((2, 3, 3, 3)).at[..., FOREGROUND].set(1)
    pooled = at_once(of_regions, regions, features)
    np.testing.assert_allclose(pooled[:, FOREGROUND], features.mean((1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(pooled[:, BACKGROUND], 0)
    assert np.isfinite(other_class(jnp.array([[200.0, 0.0]]), jnp.array([0]))).all()


class Doubled(Tiny):
    """An encoder that changes its map before a head."""

    def before_head(self, features):
        return 2 * features


@pytest.mark.slow
def test_a_region_that_is_everywhere_scores_as_the_image_does():
    def terms_of():
        encoder = Doubled(rngs=nnx.Rngs(0))
        head = TriLite().head(encoder, CLASSES, dtype=jnp.float32, rngs=nnx.Rngs(1))
        head.norm.bias.set_value(jnp.zeros(3).at[FOREGROUND].set(50.0))
        return TriLite().loss(Classifier(encoder, head), batch(0), jax.random.key(0), jnp.asarray(0))[2]

    terms = on_one_device(terms_of)
    np.testing.assert_allclose(terms["foreground"], terms["ce"], rtol=1e-4)


@pytest.fixture(scope="module")
def model():
    model = tiny(TriLite())
    model.head.norm.bias[...] = jnp.array([0.3, -0.2, 0.1])
    return model


@pytest.mark.slow
def test_the_regions_are_shares_of_a_normalised_convolution(model):
    features = jax.random.normal(jax.random.key(0), (2, 3, 3, WIDTH))
    regions = at_once(lambda head, x: head.regions(x, train=False), model.head, features)
    scores = at_once(model.head.conv, features) / np.sqrt(1 + 1e-5) + np.array([0.3, -0.2, 0.1])
    np.testing.assert_allclose(regions, np.exp(scores) / np.exp(scores).sum(-1, keepdims=True), rtol=1e-4)
    assert model.head.conv.kernel.shape == (3, 3, WIDTH, 3) and model.head.conv.bias is None


@pytest.mark.slow
def test_the_loss_is_the_sum_of_its_terms():
    given, way = batch(0), TriLite(alpha=0.7)
    loss, logits, terms = on_one_device(lambda: way.loss(tiny(way), given, jax.random.key(0), jnp.asarray(0)))
    labels = jnp.asarray(given.labels)

    def by_hand(model):
        stages, scores = model(given.images, train=False)
        patches = stages[-1].patches
        hidden = model.head.conv(patches)
        centred = hidden - hidden.mean((0, 1, 2))
        regions = jax.nn.softmax(centred / jnp.sqrt((centred**2).mean((0, 1, 2)) + 1e-5))
        pooled = of_regions(regions, patches)
        foreground, background = (
            pooled[:, which] @ model.head.classes.fc.kernel[...] for which in (FOREGROUND, BACKGROUND)
        )
        return scores, {
            "ce": cross_entropy(scores, labels).mean(),
            "foreground": cross_entropy(foreground, labels).mean(),
            "background": other_class(background, labels).mean(),
        }

    scores, expected = at_once(by_hand, tiny(way))
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(loss, terms["ce"] + terms["foreground"] + 0.7 * terms["background"], rtol=1e-5)
    np.testing.assert_allclose(logits, scores, atol=1e-5)


@pytest.mark.slow
def test_it_localizes_by_the_foreground_and_f_cam_draws_its_seeds_from_it(model):
    given = batch(0)
    stages, logits = in_inference(model, given.images)
    maps = at_once(lambda head, x: head.regions(x, train=False), model.head, stages[-1].patches)[..., FOREGROUND]
    found = at_once(method_of(TriLite(), model).localize, model, given)
    np.testing.assert_allclose(found.maps, minmax(resize_bilinear(maps, (16, 16))), atol=1e-5)
    np.testing.assert_array_equal(found.logits, logits)
    np.testing.assert_allclose(seeds_of_fcam(TriLite(), model, given), score_map(maps, (16, 16), "fcam"), atol=1e-5)
    finest_of_cam = fused(CAMS["layercam"](), ("stage1", "stage3"), 6)
    assert finest_of_cam.finest == 0
    assert {SeedMaps(way(), finest_of_cam).finest for way in (TriLite, TSCAM, SAT, LOST)} == {-1}


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["transformer", "convolutions"])
def test_a_step_trains_the_head_alone_and_is_alike_on_one_device_and_on_four(encoder):
    way = TriLite()
    model = tiny(way) if encoder == "transformer" else under(way, Tiny(rngs=nnx.Rngs(0)))
    before, after = assert_alike_on_one_device_and_on_four(way, {"ce", "foreground", "background"}, model)
    assert set(after.params) == {"head"} and unchanged_parts(before, after) == set()
    changed = {
        path[0].key
        for (path, a), b in zip(jax.tree.leaves_with_path(before.rest), jax.tree.leaves(after.rest), strict=True)
        if (a != b).any()
    }
    assert changed == {"head"}  # the statistics of its BatchNorm alone


def test_less_than_a_hundred_thousand_parameters_are_trained_on_cub():
    model = of_published(TriLite(), ENCODERS, "dinov2_vits14")
    assert parameters(model.head) == (384 * 200 + 200) + 9 * 384 * 3 + 2 * 3 == 87_374
    assert parameters(nnx.eval_shape(lambda: TriLiteHead(384, 1000, side=3, rngs=nnx.Rngs(0)))) < 0.8e6


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"alpha": -1.0}, "^alpha is -1.0; it must be at least 0"), ({"side": 2}, "^side is 2; it must be odd$")],
)
def test_a_setting_outside_its_range_is_named(settings, words):
    with pytest.raises(InputError, match=words):
        TriLite(**settings)


def test_scores_are_those_of_the_class_token(model):
    stages, logits = in_inference(model, batch(0).images)
    fc = model.head.classes.fc
    expected = stages[-1].prefix[:, 0] @ fc.kernel[...] + fc.bias[...]
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert logits.shape == (8, CLASSES)
