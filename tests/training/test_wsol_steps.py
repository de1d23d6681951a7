"""The comparison methods in the train step: on one device and on four, and F-CAM on a classifier that they trained."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType
from test_every_cam import ALL
from tiny_stages import CLASSES, STAGES, Tiny, batch, decoder, optimizer

from fcam_jax.cams.contract import explain
from fcam_jax.methods.acol import ACoL, ACoLHead
from fcam_jax.methods.adl import ADL
from fcam_jax.methods.bas import BAS, BASHead
from fcam_jax.methods.classifier import SeedMaps
from fcam_jax.methods.contract import Method
from fcam_jax.methods.few_shot import FewShot, Saliency
from fcam_jax.methods.gcnet import GCNet, ShapeHead
from fcam_jax.methods.mixing import CutMix, HaS
from fcam_jax.methods.psol import PSOL, BoxHead
from fcam_jax.methods.spg import SPG, SPGHead
from fcam_jax.methods.spol import SPOL, fusion_head
from fcam_jax.methods.spol_segmenter import SPOLSegmenter
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.heads import WGAP
from fcam_jax.training.placed import Placed, replicate, spread
from fcam_jax.training.step import initial_state, make_train_step
from fcam_jax.types import DATA_AXIS, OBJECT, UNDECIDED

pytestmark = pytest.mark.slow

METHODS = {
    "adl": ADL(),
    "acol": ACoL(),
    "spg": SPG(),
    "has": HaS(),
    "cutmix": CutMix(),
    "fsl": FewShot(),
    "bas": BAS(),
    "psol": PSOL(),
    "gcnet": GCNet(),
    "spol": SPOL(),
    "spol_segmenter": SPOLSegmenter(),
}


def classifier(name):
    encoder = Tiny(rngs=nnx.Rngs(0))
    top = encoder.channels[-1]
    heads = {
        **dict.fromkeys(("adl", "has", "cutmix"), lambda rngs: WGAP(top, CLASSES, rngs=rngs)),
        "fsl": lambda rngs: Saliency(top, rngs=rngs),
        "acol": lambda rngs: ACoLHead(top, CLASSES, width=6, threshold=0.7, rngs=rngs),
        "psol": lambda rngs: BoxHead(top, width=6, rngs=rngs),
        "bas": lambda rngs: BASHead(top, CLASSES, lower=encoder.channels[-2], width=6, rngs=rngs),
        "spg": lambda rngs: SPGHead(top, CLASSES, guides=encoder.channels[:2], width=6, rngs=rngs),
        "gcnet": lambda rngs: ShapeHead(top, CLASSES, shape="ellipse", rngs=rngs),
        "spol": lambda rngs: fusion_head(encoder, CLASSES, rectified=True, rngs=rngs),
        "spol_segmenter": lambda rngs: fusion_head(encoder, 1, rectified=False, rngs=rngs),
    }
    return METHODS[name].extend(Classifier(encoder, heads[name](nnx.Rngs(1))), rngs=nnx.Rngs(2))


def method_of(name):
    return dataclasses.replace(STAGES["classifier"].method, training=METHODS[name])


def annotated(seed):
    """The batch with objects, of which some pixels are undecided and one device knows of most."""
    rng = np.random.default_rng(seed)
    objects = rng.choice(np.array([0, OBJECT, UNDECIDED], np.uint8), (8, 16, 16))
    objects[:6][rng.random((6, 16, 16)) < 0.7] = UNDECIDED
    return dataclasses.replace(batch(seed), objects=objects)


def mesh_of(devices):
    return jax.make_mesh((devices,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])


def step(model, method, devices, **how):
    mesh = mesh_of(devices)
    state = initial_state(Placed.split(model, method, mesh), optimizer(method))
    before = jax.device_get(state.params)
    run = make_train_step(Placed.split(model, method, mesh), method, optimizer(method), **how)
    state, metrics = run(state, spread(annotated(0), mesh), replicate(jax.random.key(7), mesh))
    return before, jax.device_get(state), jax.device_get(metrics)


@pytest.mark.sampled
@pytest.mark.parametrize("name", METHODS)
def test_a_step_trains_all_of_the_model_and_one_device_equals_four(name):
    model, method = classifier(name), method_of(name)
    assert isinstance(method, Method)
    before, one, metrics_one = step(model, method, 1)
    _, four, metrics_four = step(model, method, 4)
    assert metrics_one.keys() == metrics_four.keys() >= {"loss", "accuracy"}
    for key, value in metrics_one.items():
        assert np.isfinite(value)
        np.testing.assert_allclose(metrics_four[key], value, rtol=2e-4, atol=1e-5, err_msg=key)
    for a, b, old in zip(*map(jax.tree.leaves, (one.params, four.params, before)), strict=True):
        assert (a != old).any()
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.long
def test_cutmix_mixes_the_same_parts_on_any_number_of_devices():
    model, method = classifier("cutmix"), method_of("cutmix")
    (_, _, one), (_, _, four) = (step(model, method, devices, accumulate=2) for devices in (1, 4))
    for key, value in one.items():
        np.testing.assert_allclose(four[key], value, rtol=2e-4, atol=1e-5, err_msg=key)


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["acol", "spg", "bas", "spol", "gcnet"])
def test_fcam_learns_from_the_map_of_the_method(name):
    trained, fcam = classifier(name), STAGES["fcam"].method
    method = dataclasses.replace(fcam, cam=SeedMaps(METHODS[name], fcam.cam))
    before, after, metrics = step(FCAM(trained, decoder(trained.encoder)), method, 1)
    assert set(after.params) == {"decoder"} and all(np.isfinite(value) for value in metrics.values())
    assert all((a != b).any() for a, b in zip(*map(jax.tree.leaves, (after.params, before)), strict=True))


def test_every_cam_explains_a_classifier_of_two_branches():
    model, given = classifier("acol"), batch(0)
    structure, state = nnx.split(model)

    def maps(state, images):
        network = nnx.merge(structure, state)
        stages = network.stages(network.normalize(images))
        keys = jax.random.split(jax.random.key(0), len(images))
        return [cam(explain(network, images, stages, jnp.asarray(given.labels), keys)) for cam in ALL]

    found = jax.eval_shape(maps, state, jnp.asarray(given.images))
    assert {cam.shape for cam in found} == {(8, 4, 4)}
