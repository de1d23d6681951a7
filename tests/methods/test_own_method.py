"""A method of a user's own, in a file outside of the package: a branch, a memory, a map, an order of images, a rule."""

import dataclasses
import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import replicated
from at_once import at_once
from filled import filled
from flax import nnx
from tiny_stages import CLASSES, STAGES, Tiny, batch, decoder

from fcam_jax.cams import CAMS
from fcam_jax.cams.contract import explain
from fcam_jax.cams.score_maps import score_map
from fcam_jax.component import defaults_of, meanings_of
from fcam_jax.data.loaded import LoadedImages
from fcam_jax.data.pipeline import TrainingStream
from fcam_jax.data.source import Record
from fcam_jax.errors import InputError
from fcam_jax.methods import METHODS
from fcam_jax.methods.classifier import ClassifierMethod, SeedMaps, new_layers
from fcam_jax.models.fcam import FCAM

pytestmark = pytest.mark.slow

FILE = '''
"""Prototypes: a branch embeds the top map, a memory keeps the mean embedding of each class, likeness localizes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fcam_jax.cams.score_maps import minmax, resize_bilinear
from fcam_jax.component import shares
from fcam_jax.methods import METHODS
from fcam_jax.methods.classifier import ClassifierTraining, plain
from fcam_jax.methods.contract import of_all, same
from fcam_jax.models.layers import conv
from fcam_jax.runtime.random import named
from fcam_jax.types import DATA_AXIS, Localization


class Memory(nnx.Variable):
    """What training remembers and gradients do not change."""


class Branch(nnx.Module):
    def __init__(self, channels, classes, *, dtype, rngs):
        self.embed = conv(channels, 5, 1, bias=True, dtype=dtype, rngs=rngs)
        self.means = Memory(jnp.zeros((classes, 5)))
        self.seen = Memory(jnp.zeros((), jnp.int32))
        self.teacher = Memory(jnp.zeros((5,)))  # follows a trained variable

    def likeness(self, features, labels):
        return jnp.einsum("bhwc,bc->bhw", self.embed(features), self.means[...][labels])


@METHODS.register("prototypes")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Prototypes(ClassifierTraining):
    """Cross-entropy, and the distance to the class's prototype.

    Attributes:
      momentum: of the memory, in [0, 1].
    """

    title = "Prototypes"
    by_cam = False

    momentum: float = 0.9

    def __post_init__(self):
        shares(self, "momentum")

    def extend(self, network, *, dtype, rngs):
        network.decoder = Branch(network.encoder.channels[-1], network.head.fc.out_features, dtype=dtype, rngs=rngs)
        return network

    def order(self, records, seed):
        """Class after class in turn, from the least frequent on."""
        by_class = np.argsort(records.labels(), kind="stable")
        return lambda place: int(by_class[(place + seed) % len(by_class)])

    def optimizer(self, default, schedule):
        return optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(schedule))

    def loss(self, model, batch, rng, step):
        branch = model.decoder
        labels = jnp.asarray(batch.labels)
        stages, _ = model(jnp.asarray(batch.images), train=False)
        noise = 1e-3 * jax.random.normal(named(rng, "prototypes.noise"), (5,))
        embedded = branch.embed(stages[-1]).mean((1, 2)) + noise
        distance = jax.lax.pmean(jnp.square(embedded - branch.means[...][labels]).mean(), DATA_AXIS)

        def remember(means, row):
            embedding, label = row
            new = self.momentum * means[label] + (1 - self.momentum) * embedding
            return means.at[label].set(new), None

        rows = of_all(jax.lax.stop_gradient(embedded)), of_all(labels)  # one after the other, in the batch's order
        branch.means[...], _ = jax.lax.scan(remember, branch.means[...], rows)
        branch.seen[...] += len(rows[0])
        branch.teacher[...] = 0.5 * branch.teacher[...] + 0.5 * same(branch.embed.bias[...])
        loss, logits, _ = plain(model, batch, rng)
        return loss + distance, logits, {"distance": distance}

    def seed_maps(self, target, cam):
        return jax.nn.relu(target.network.decoder.likeness(target.features, target.labels))

    def localize(self, model, batch, by_cam):
        stages, logits = model(jnp.asarray(batch.images), train=False)
        maps = minmax(resize_bilinear(model.decoder.likeness(stages[-1], batch.labels), batch.images.shape[1:3]))
        return Localization(maps, logits)
'''


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The method, as a user's configuration file registers it."""
    path = tmp_path_factory.mktemp("user") / "prototypes.py"
    path.write_text(FILE)
    spec = importlib.util.spec_from_file_location("prototypes_of_a_user", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield METHODS["prototypes"]
    del METHODS["prototypes"]
    del sys.modules[spec.name]


def tiny():
    return filled(lambda: Tiny(rngs=nnx.Rngs(0)))


def network(way):
    return replicated.network(way, tiny())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_is_trained_alike_on_one_device_and_on_four(own, accumulate):
    before, one, logged = replicated.assert_alike_on_four(own(), tiny, steps=3, accumulate=accumulate)
    assert logged[0].keys() == {"loss", "accuracy", "distance"}
    memory = one.rest["decoder"]
    assert memory["seen"] == 24 and np.abs(memory["means"]).max() > 0 and np.abs(memory["teacher"]).max() > 0
    assert all((a != b).any() for a, b in zip(*map(jax.tree.leaves, (one.params, before.params)), strict=True))
    assert set(one.params["decoder"]) == {"embed"}


def test_its_branch_learns_as_new_layers_do(own):
    method = ClassifierMethod(CAMS["cam"](), "protocol", new_layers(network(own())), 10.0, own())
    paths = (("decoder", "embed", "kernel"), ("head", "fc", "kernel"), ("encoder", "first", "conv", "kernel"))
    assert [method.learning_rate_factor(path) for path in paths] == [10.0, 10.0, 1.0]


def test_f_cam_takes_its_map_and_trains_none_of_it(own):
    model = network(own())
    model.decoder.means[...] = jax.random.normal(jax.random.key(1), (CLASSES, 5))
    method = dataclasses.replace(STAGES["fcam"].method, cam=SeedMaps(own(), STAGES["fcam"].method.cam))
    given = batch(0)
    images, labels = jnp.asarray(given.images), jnp.asarray(given.labels)
    keys = jax.random.split(jax.random.key(0), len(labels))

    def sources(model):
        whole = FCAM(model, decoder(model.encoder))
        stages, _, _ = whole(images, train=False)
        target = explain(model, images, stages, labels, keys)
        expected = score_map(jnp.maximum(model.decoder.likeness(target.features, labels), 0), (16, 16), "fcam")
        return method.seed_source(whole, stages, given, keys), expected

    found, expected = at_once(sources, model)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    whole = nnx.eval_shape(lambda: FCAM(model, decoder(model.encoder)))
    trained = nnx.to_flat_state(nnx.split(whole, method.trainable, ...)[1])
    assert {path[0] for path, _ in trained} == {"decoder"}  # F-CAM's, not the branch that has the same name


def test_it_localizes_by_its_own_map(own):
    model, given = network(own()), batch(0)
    model.decoder.means[...] = jax.random.normal(jax.random.key(1), (CLASSES, 5))
    method = ClassifierMethod(CAMS["cam"](), "protocol", (), 1.0, own())
    found = at_once(method.localize, model, given)
    plain = at_once(dataclasses.replace(method, training=METHODS["cam"]()).localize, model, given)
    assert found.maps.shape == (8, 16, 16) and np.abs(found.maps - plain.maps).max() > 0.1
    np.testing.assert_array_equal(found.logits, plain.logits)


class Records:
    """Six images, whose red channel is their position."""

    num_classes, class_names, truth, left_out, fingerprint = 3, None, ("boxes",), (), "six"

    def __len__(self):
        return 6

    def labels(self):
        return np.array([2, 0, 1, 0, 2, 1])

    def __getitem__(self, index):
        return Record(np.full((6, 6, 3), index, np.uint8), int(self.labels()[index]), f"{index}.png")


def test_the_images_come_in_its_order_which_is_resumed_and_shared(own):
    def stream(**of_process):
        images = LoadedImages(Records(), 6, annotated=False)
        order = own().order(Records(), 1)
        return TrainingStream(images, batch_size=4, crop=4, seed=1, order=order, **of_process)

    by_class = [1, 3, 2, 5, 0, 4]
    expected = [by_class[(place + 1) % 6] for place in range(12)]
    whole = stream()
    batches = [next(whole) for _ in range(3)]
    assert [index for one in batches for index in one.index] == expected
    np.testing.assert_array_equal(batches[0].images[:, 0, 0, 0], expected[:4])
    resumed = stream()
    resumed.set_state({"images": 4})
    np.testing.assert_array_equal(next(resumed).index, batches[1].index)
    halves = [next(stream(process_index=process, process_count=2)).index for process in (0, 1)]
    assert sorted(np.concatenate(halves)) == sorted(batches[0].index)


def test_its_settings_have_defaults_and_meanings_and_are_checked_by_their_field(own):
    assert defaults_of(own) == {"momentum": 0.9} and meanings_of(own)["momentum"] == "of the memory, in [0, 1]."
    with pytest.raises(InputError, match=r"^momentum is 2; it must lie in \[0, 1\]$"):
        own(momentum=2)


def test_a_state_that_differs_between_devices_is_refused():
    class Careless(METHODS["cam"]):
        def extend(self, network, *, dtype, rngs):
            network.last = nnx.BatchStat(jnp.zeros(()))
            return network

        def loss(self, model, batch, rng, step):
            model.last[...] = jnp.asarray(batch.labels).mean()
            return super().loss(model, batch, rng, step)

    with pytest.raises(ValueError, match=r"leaves another value in last on every device"):
        replicated.trained(Careless(), tiny(), 4, steps=1)
