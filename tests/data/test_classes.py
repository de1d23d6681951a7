"""Labels of a split in the numbering of a model."""

import unicodedata

import numpy as np
import pytest

from fcam_jax.data.classes import described, matched
from fcam_jax.data.layouts.metadata import folder_names
from fcam_jax.data.source import Record
from fcam_jax.errors import InputError

IMAGE = np.zeros((2, 2, 3), np.uint8)


class Split:
    """Images of the classes at some labels."""

    truth, left_out, fingerprint = (), (), "of these images"

    def __init__(self, names, labels, num_classes=None):
        self.class_names, self._labels = names, np.array(labels)
        self.num_classes = len(names) if num_classes is None else num_classes

    def __len__(self):
        return len(self._labels)

    def __getitem__(self, index):
        return Record(IMAGE, int(self._labels[index]), str(index))

    def labels(self):
        return self._labels


def numbers(source, classes):
    """The labels of the matched split, which its records have, too."""
    found = matched(source, source.class_names, classes, "split test")
    assert [found[i].label for i in range(len(found))] == found.labels().tolist()
    assert found.num_classes == len(classes)
    return found.labels().tolist()


@pytest.mark.parametrize(
    ("names", "classes", "expected"),
    [
        (("bee", "cat"), ("ant", "bee", "cat"), [1, 2]),
        (("cat", "ant"), ("ant", "bee", "cat"), [2, 0]),
        (("10", "2"), ("2", "10"), [1, 0]),
        (("bee", " cat"), ("cat", None, "bee"), [2, 0]),
        ((unicodedata.normalize("NFD", "Möwe"), "Star"), ("Ente", "Möwe", "Star"), [1, 2]),
        (("a\tb", "c"), ("c", "a\\tb"), [1, 0]),  # as a file of names holds it
        (("bee", "cat", "root of the categories"), ("bee", "cat"), [0, 1]),  # without images
    ],
)
def test_labels_are_matched_by_the_names_of_their_classes(names, classes, expected):
    assert numbers(Split(names, [0, 1]), classes) == expected


def test_classes_that_have_no_names_on_one_side_are_matched_by_number_and_that_is_told(caplog):
    assert numbers(Split(None, [0, 1], 2), ("ant", "bee", "cat")) == [0, 1]
    assert "split test: classes are matched by number, as it has no names of them" in caplog.text
    caplog.clear()
    assert numbers(Split(None, [0, 1], 2), [None] * 3) == [0, 1] and not caplog.text


@pytest.mark.parametrize(
    ("names", "labels", "classes", "words"),
    [
        (("bee", "wolf"), [0, 1], ("ant", "bee"), r"does not have: 1 \(wolf\); the model has 2 \(ant, bee\)"),
        (None, [0, 4], ("ant", "bee"), r"does not have: 1 \(4\); the model has 2 \(ant, bee\)"),
        (None, [0, 4], (None, None), r"does not have: 1 \(4\); the model has 2 \(\?, \?\)"),
        (("bee", "crane"), [0, 1], ("crane", "bee", "crane"), "two are called 'crane': it has 2 .*, the model 3"),
        (("crane", "crane"), [0, 1], ("crane", "bee"), "two are called 'crane': it has 2 .*, the model 2"),
    ],
)
def test_classes_that_cannot_be_matched_are_told_with_both_sets(names, labels, classes, words):
    with pytest.raises(InputError, match=words):
        matched(Split(names, labels, 5 if names is None else None), names, classes, "split test")


def test_folders_of_splits_are_no_names_of_classes():
    assert folder_names(["train/1.jpg", "train/2.jpg"], np.array([0, 0]), 1) is None
    assert folder_names(["train/1.jpg", "car/2.jpg"], np.array([0, 1]), 2) == ("train", "car")


def test_a_message_of_many_long_names_is_short():
    assert len(described(["x" * 1000] * 1000)) < 600


def test_what_is_kept_of_one_numbering_is_not_for_another():
    same, other = (
        matched(Split(("bee", "cat"), [0, 1]), ("bee", "cat"), names, "")
        for names in (("bee", "cat", "ant"), ("cat", "bee"))
    )
    assert same.fingerprint == "of these images" != other.fingerprint
