"""A network called on images in any form, and pictures of what it says."""

import dataclasses
import io

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.evaluation.boxes import largest_box
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import export_weights, save_weights
from fcam_jax.models.resnet import Small
from fcam_jax.runs.prediction.images import images_of
from fcam_jax.runs.prediction.network import Predictor
from fcam_jax.runs.prediction.public import load, show
from fcam_jax.runs.report.drawing import PREDICTED_COLOUR

pytestmark = pytest.mark.slow

SEE = "see docs/poor_results.md"
SIZES = [(40, 60), (90, 33), (20, 30)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights of a classifier of five classes."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    body = Small(final_stride=8, rngs=nnx.Rngs(3))
    save_weights(export_weights(Classifier(body, WGAP(body.channels[-1], 5, rngs=nnx.Rngs(4)))), path)
    return path


@pytest.fixture(scope="module")
def network(weights):
    return load(weights, "small", final_stride=8, size=32, batch_size=2)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES]


def test_maps_without_a_place_are_told_with_the_first_image(network, monkeypatch, tmp_path, caplog):
    predictor = Predictor.__call__

    def constant(self, images, labels):
        sound = predictor(self, images, labels)
        return dataclasses.replace(sound, maps=np.full_like(sound.maps, 0.3))

    monkeypatch.setattr(Predictor, "__call__", constant)
    PIL.Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    network(tmp_path / "a.png")
    network(np.zeros((2, 40, 60, 3), np.uint8))
    for message, count, name in zip(caplog.messages, (1, 2), (tmp_path / "a.png", "image 0"), strict=True):
        maps = f"{count} of {count} maps are constant (max - min below 0.1), first {name}; "
        assert message == f"{maps}{count} of {count} boxes cover over 95 % of the image, first {name}: {SEE}"


def test_every_image_has_map_mask_boxes_and_classes_at_its_size(network, images):
    found = network(images)
    assert len(found) == 3 and found.logits.shape == found.probabilities.shape == (3, 5)
    np.testing.assert_allclose(found.probabilities.sum(1), 1)
    assert found.labels == found.logits.argmax(1).tolist()
    assert found.classes == [f"class {label}" for label in found.labels]
    for size, score_map, mask, boxes in zip(SIZES, found.maps, found.masks, found.boxes, strict=True):
        assert score_map.shape == mask.shape == size and score_map.dtype == np.float32
        assert 0 <= score_map.min() <= score_map.max() <= 1
        np.testing.assert_array_equal(boxes[0], largest_box(score_map, 0.4))
    for i, image in enumerate(images):  # neither the batch nor the place in it matters
        np.testing.assert_allclose(network(image).maps[0], found.maps[i], atol=1e-5)
    assert not network(images[0], threshold=0.9).masks[0].all()
    tight = network(images, threshold=0.9)
    assert tight.masks[1].sum() < found.masks[1].sum()
    again = found.cut(0.9)
    assert again.threshold == tight.threshold and again.cut(None).threshold == found.threshold
    for one, other in ((again, tight), (again.cut(None), found)):
        assert [mask.tolist() for mask in one.masks] == [mask.tolist() for mask in other.masks]
        assert [boxes.tolist() for boxes in one.boxes] == [boxes.tolist() for boxes in other.boxes]


def test_classes_and_cams_can_be_chosen(network, images):
    assert network(images, label=2).labels == [2, 2, 2]
    each = network(images, label=[0, 4, 1])
    assert each.labels == [0, 4, 1]
    np.testing.assert_allclose(each.maps[1], network(images[1], label=4).maps[0], atol=1e-5)
    other = network(images[0], cam="layercam")
    assert other.network.title == "layercam"
    assert np.abs(other.maps[0] - network(images[0]).maps[0]).max() > 1e-3
    for options, told in (
        ({"label": 5}, "label=5 is no class of this network; they are 0 to 4"),
        ({"label": "bird"}, "name of no class"),
        ({"label": [1]}, "label has 1 classes for 3 images"),
        ({"threshold": 1.0}, r"must lie in \[0, 1\)"),
        ({"cam": "hindcam"}, "unknown CAM 'hindcam'"),
    ):
        with pytest.raises(InputError, match=told):
            network(images, **options)


@pytest.mark.parametrize(("classes", "options"), [(1, {}), (5, {"probability": "sigmoid"})])
def test_one_class_and_several_of_an_image_have_a_sigmoid_each(classes, options, images, tmp_path):
    body = Small(final_stride=8, rngs=nnx.Rngs(3))
    model = Classifier(body, WGAP(body.channels[-1], classes, rngs=nnx.Rngs(4)))
    model.head.fc.bias.set_value(jnp.linspace(-4, 4, classes))
    save_weights(export_weights(model), tmp_path / "w.safetensors")
    found = load(tmp_path / "w.safetensors", "small", size=32, **options)(images)
    logits = found.logits.astype(float)
    np.testing.assert_allclose(found.probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-6)
    assert found.probabilities[:, 0].max() < 0.2


def test_images_come_in_any_form(images, tmp_path):
    (image,) = images_of(images[0])
    path = tmp_path / "a.png"
    PIL.Image.fromarray(image).save(path)
    for same in (path, str(path), PIL.Image.fromarray(image), image / 255, jnp.asarray(image), image.astype(np.int64)):
        np.testing.assert_array_equal(images_of(same)[0], image)
    assert len(images_of(np.stack([image, image]))) == len(images_of([path, image])) == 2
    gray = image[..., 0]
    for same in (gray, gray[..., None], PIL.Image.fromarray(gray), gray.astype(np.uint16) * 257):
        np.testing.assert_array_equal(images_of(same)[0], np.stack([gray] * 3, -1))
    np.testing.assert_array_equal(images_of(np.dstack([image, gray]))[0], image)  # without its alpha


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "no image"),
        (np.zeros((3, 8, 9)), r"shape \(3, 8, 9\)"),
        (np.zeros((0, 8, 3)), "shape"),
        (np.full((8, 8, 3), 255.0), r"floats from 255 to 255; floats are in \[0, 1\]"),
        (np.full((8, 8), np.nan), "floats from nan"),
        ([np.zeros((8, 8)), np.full((8, 8), 300)], "image 1 holds int64 from 300"),
        (np.zeros((8, 8), bool), "holds bool"),
        ("nowhere.jpg", "nowhere.jpg"),
    ],
)
def test_what_is_no_image_gets_one_line(given, told):
    with pytest.raises(InputError, match=told) as caught:
        images_of(given)
    assert "\n" not in str(caught.value)


def test_a_file_needs_its_encoder_and_a_run_needs_none(weights, tmp_path):
    with pytest.raises(InputError, match="say of which encoder"):
        load(weights)
    with pytest.raises(InputError, match="no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="unknown encoder 'smaller'"):
        load(weights, "smaller")
    with pytest.raises(InputError, match="5 classes, num_classes is 7"):
        load(weights, "small", final_stride=8, num_classes=7)


def test_a_picture_is_shown_by_notebooks_and_saved(network, images, tmp_path):
    picture = network(images).show(tmp_path / "grid.png")
    with PIL.Image.open(io.BytesIO(picture._repr_png_())) as shown, PIL.Image.open(tmp_path / "grid.png") as saved:
        np.testing.assert_array_equal(shown, saved)
        assert shown.size[0] >= 3 * 224
    one = show(images[0], np.eye(7)[..., None], [5, 5, 20, 30], np.ones((4, 4), bool), title="a bird")
    assert (one.pixels == PREDICTED_COLOUR).all(-1).any()
    one.save(tmp_path / "one.jpg")
    assert (tmp_path / "one.jpg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"box": [5, 5, 80, 20]}, "lies outside of the image of 60 x 40 pixels"),
        ({"box": [5, 5, 3, 20]}, r"box \[5, 5, 3, 20\] looks like x, y, width, height; give corners"),
        ({"box": [0.1, 0.1, 0.5, 1.0]}, "looks like shares of the image; give corners"),
        ({"box": [5, 5, 3]}, "box has shape"),
        ({"map": np.full((4, 4), np.nan)}, "map"),
        ({"map": np.full((4, 4), 2.0)}, "map"),
        ({"map": np.zeros(4)}, "map has shape"),
        ({"mask": np.zeros((4, 4, 4))}, "mask has shape"),
    ],
)
def test_what_cannot_be_drawn_gets_one_line(images, parts, told):
    with pytest.raises(InputError, match=told) as caught:
        show(images[0], **parts)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=f"{next(iter(parts))} has 1 entries for 2 images"):
        show(images[:2], **{name: [value] for name, value in parts.items()})


def test_images_of_fewer_than_16_bits_in_uint16_are_told(caplog):
    images_of([np.full((4, 4), 4095, np.uint16), np.full((4, 4), 65535, np.uint16)])
    assert caplog.messages == ["image 0 holds uint16 up to 4095, which is nearly black where 65535 is white: scale it"]
