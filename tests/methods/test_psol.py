"""PSOL: boxes out of object maps and back, the loss, and boxes that another program has found."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from abstract import abstract_encoder
from flax import nnx
from one_device import InInference, batch, classifier, on_one_device, parameters

from fcam_jax.data.source import Record
from fcam_jax.errors import InputError
from fcam_jax.methods.psol import PSOL, BoxHead, boxes_of, map_of_boxes, overlap
from fcam_jax.types import OBJECT, UNDECIDED


def network():
    tiny = classifier(lambda encoder, rngs: BoxHead(encoder.channels[-1], width=6, rngs=rngs))
    return InInference(tiny.encoder, tiny.head)


def objects(*corners, side=16):
    """A map of an object for each box of inclusive corners; None: there is none."""
    found = np.full((len(corners), side, side), 0, np.uint8)
    for one, box in zip(found, corners, strict=True):
        if box is not None:
            x0, y0, x1, y1 = box
            one[y0 : y1 + 1, x0 : x1 + 1] = OBJECT
    return found


@pytest.mark.slow
def test_a_box_is_that_around_the_object_in_shares_of_the_image_and_its_map_is_the_object():
    given = objects((2, 4, 5, 11), (0, 0, 15, 15), (15, 3, 15, 3), None)
    boxes, there = boxes_of(jnp.asarray(given))
    np.testing.assert_array_equal(16 * boxes[:3], [[2, 4, 4, 8], [0, 0, 16, 16], [15, 3, 1, 1]])
    np.testing.assert_array_equal(there, [True, True, True, False])
    np.testing.assert_array_equal(map_of_boxes(boxes[:3], (16, 16)), given[:3] == OBJECT)
    holed = given[0].copy()
    holed[4:6, 2:4], holed[13] = 0, UNDECIDED  # another outline of the same extent, and what is not known
    np.testing.assert_array_equal(boxes_of(jnp.asarray(holed[None]))[0], boxes[:1])


def test_the_overlap_is_that_of_areas():
    a = jnp.array([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5], [0.2, 0.2, 0.4, 0.4], [0.1, 0.1, 0.0, 0.0]])
    b = jnp.array([[0.25, 0.0, 0.5, 0.5], [0.6, 0.0, 0.4, 0.4], [0.2, 0.2, 0.4, 0.4], [0.1, 0.1, 0.0, 0.0]])
    np.testing.assert_allclose(overlap(a, b), [1 / 3, 0, 1, 0], atol=1e-6)


@pytest.mark.slow
def test_the_loss_is_the_squared_error_of_the_images_that_show_their_object():
    model = network()
    given = dataclasses.replace(batch(), objects=objects((2, 4, 5, 11), None, (0, 0, 15, 15), (8, 8, 9, 9)))
    loss, scores, figures = on_one_device(PSOL().loss, model, given, jax.random.key(0), jnp.asarray(0))
    stages = model.stages(model.normalize(given.images))
    pooled = np.asarray(stages[-1], np.float64).mean((1, 2))
    hidden, last = model.head.hidden, model.head.fc
    hidden = np.maximum(pooled @ np.asarray(hidden.kernel[...]) + np.asarray(hidden.bias[...]), 0)
    found = 1 / (1 + np.exp(-(hidden @ np.asarray(last.kernel[...]) + np.asarray(last.bias[...]))))
    wanted = np.array([[2, 4, 4, 8], [0, 0, 16, 16], [8, 8, 2, 2]]) / 16
    np.testing.assert_allclose(loss, np.square(found[[0, 2, 3]] - wanted).mean(), rtol=1e-4)
    assert scores is None and 0 <= figures["accuracy"] <= 100
    maps = PSOL().localize(model, given, lambda *_: None)
    assert maps.logits is None and set(np.unique(maps.maps)) == {0, 1}
    np.testing.assert_allclose(maps.maps.mean((1, 2)), np.minimum(found[:, 2:], 1 - found[:, :2]).prod(1), atol=0.1)
    none = dataclasses.replace(given, objects=np.zeros((4, 16, 16), np.uint8))
    assert on_one_device(PSOL().loss, model, none, jax.random.key(0), jnp.asarray(0))[0] == 0


def test_parameters_are_those_of_two_layers_on_any_encoder():
    for name, channels in (("resnet18", 512), ("deit_tiny", 192)):
        head = nnx.eval_shape(
            functools.partial(lambda encoder: PSOL().head(encoder, 200, rngs=nnx.Rngs(0)), abstract_encoder(name))
        )
        assert parameters(head) == channels * 512 + 512 + 512 * 4 + 4


class Records:
    """Two images of a split without boxes."""

    num_classes, class_names, truth, left_out, fingerprint = 3, None, (), (), "two"

    def __len__(self):
        return 2

    def labels(self):
        return np.array([2, 0])

    def __getitem__(self, index):
        mask = np.ones((6, 8), bool)
        return Record(np.zeros((6, 8, 3), np.uint8), 2 - 2 * index, f"a/{index}.png", mask=mask)


def lines(*rows):
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)


def test_training_images_have_the_boxes_of_the_file(tmp_path):
    path = tmp_path / "predictions.jsonl"
    path.write_text(
        lines({"image": "a/0.png", "box": [1, 2, 5, 4], "width": 8, "height": 6}, "", {"image": "a/1.png", "box": None})
    )
    records = PSOL(boxes=str(path)).training_records({"train": Records()}, 0)
    assert len(records) == 2 and records.truth == ("boxes",) and str(path) in records.fingerprint
    np.testing.assert_array_equal(records.labels(), [2, 0])
    np.testing.assert_array_equal(records[0].boxes, [[1, 2, 5, 4]])
    assert records[1].boxes is None and records[1].mask.all() and records[1].mask.shape == (6, 8)
    assert records[0].mask is None and records[1].label == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (lines({"image": "a/1.png", "box": [1, 2, 3, 4]}), "has no line of the image a/0.png"),
        (lines({"image": "a/0.png", "box": [8, 0, 9, 2]}), "[8, 0, 9, 2] of a/0.png is outside its 8 x 6 pixels"),
        (lines({"image": "a/0.png", "box": None, "width": 6, "height": 8}), "with 6 x 8 pixels; it has 8 x 6"),
        *(
            (lines({"image": "a/0.png", "box": None}, wrong), "line 2: it must be ")
            for wrong in ("{", "[]", "7", '{"image": "a/0.png"}', {"image": 3, "box": None})
        ),
        *(
            (lines({"image": "a/0.png", "box": wrong}), "line 1: it must be ")
            for wrong in (
                [1, 2, 3],
                [1, 2, 0, 4],
                [-1, 0, 1, 1],
                [0, 0, 1, 2**31],
                [0, 0, 1.5, 2],
                "1,2,3,4",
                [True] * 4,
            )
        ),
    ],
)
def test_what_is_wrong_with_the_boxes_is_named(text, words, tmp_path):
    path = tmp_path / "boxes.jsonl"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        PSOL(boxes=str(path)).training_records({"train": Records()}, 0)[0]
    assert words in str(caught.value) and "boxes.jsonl" in str(caught.value)


def test_a_file_is_needed_that_is_there(tmp_path):
    with pytest.raises(InputError, match=r"^classifier\.psol\.boxes is empty"):
        PSOL().training_records({"train": Records()}, 0)
    with pytest.raises(InputError, match=r"none\.jsonl"):
        PSOL(boxes=str(tmp_path / "none.jsonl")).training_records({"train": Records()}, 0)
