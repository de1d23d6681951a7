"""Prepared data: read from several threads, damaged, of another kind than is asked for; the stock caltech_birds2011."""

import concurrent.futures
import io
import json
import shutil

import numpy as np
import pytest
from replicas import Replica, encoded

from fcam_jax.data.images import decode_image
from fcam_jax.data.layouts.metadata import folder_names
from fcam_jax.data.published.sample_page import drawn
from fcam_jax.data.source import Record, Source
from fcam_jax.data.tfds_source import Prepared, TfdsSource
from fcam_jax.errors import InputError


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A prepared replica with masks, made once."""
    with pytest.MonkeyPatch.context() as patch:
        replica = Replica("openimages", tmp_path_factory.mktemp("replica"))
        replica.publish(patch)
        replica.extract()
        replica.prepare()
    return replica


@pytest.fixture
def prepared(finished, tmp_path):
    """A copy of the folder of prepared data sets, for a test to spoil."""
    return shutil.copytree(finished.data_dir, tmp_path / "data")


def opened(data_dir, **options) -> TfdsSource:
    defaults = {"name": "openimages30k_wsol", "split": "test", "data_dir": data_dir, "num_classes": 100}
    return TfdsSource(**defaults | options)


def complaint(action) -> str:
    with pytest.raises(InputError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_is_a_source(finished):
    source = opened(finished.data_dir)
    assert isinstance(source, Source)
    assert source.truth and source.class_names is None
    assert not opened(finished.data_dir, split="train").truth


def test_records_are_read_at_random_from_several_threads(finished):
    source = opened(finished.data_dir)
    expected = [decode_image(finished.files["test"][name], name) for name in finished.texts["test"]["image_ids"]]
    order = np.random.default_rng(0).integers(0, len(source), 200).tolist()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        records = list(pool.map(source.__getitem__, order))
    for index, record in zip(order, records, strict=True):
        assert record.image_id == finished.texts["test"]["image_ids"][index]
        np.testing.assert_array_equal(record.image, expected[index])


def test_it_has_an_end(finished):
    source = opened(finished.data_dir)
    for index in (-1, len(source)):
        with pytest.raises(IndexError):
            source[index]


def test_a_damaged_shard_is_named_and_never_read_wrong(prepared):
    """One bit is flipped, at places all over the file: what is read is what was written, or an error."""
    [shard] = (prepared / "openimages30k_wsol/1.0.0").glob("*-test.array_record-*")
    good = shard.read_bytes()
    expected = [record.image.tobytes() for record in opened(prepared)]
    refused = 0
    for place in np.flatnonzero(np.frombuffer(good, np.uint8))[::97].tolist():
        bad = bytearray(good)
        bad[place] ^= 4
        shard.write_bytes(bad)
        source = opened(prepared)
        for index, pixels in enumerate(expected):
            try:
                assert source[index].image.tobytes() == pixels
            except InputError as error:
                assert str(error).startswith(f"{shard}: is damaged; remove {shard.parent} and run fcam prepare")
                refused += 1
    assert refused > 20


@pytest.mark.parametrize("length", [0, 1000, 70000])
def test_a_shard_that_ends_early_is_named(prepared, length):
    [shard] = (prepared / "openimages30k_wsol/1.0.0").glob("*-test.array_record-*")
    shard.write_bytes(shard.read_bytes()[:length])
    source = opened(prepared)
    assert complaint(lambda: [*source]).startswith(f"{shard}: is damaged")


def test_a_missing_shard_is_named(prepared):
    [shard] = (prepared / "openimages30k_wsol/1.0.0").glob("*-test.array_record-*")
    shard.unlink()
    assert complaint(lambda: opened(prepared)).startswith(f"{shard}: is not there")


def test_other_data_than_asked_for_are_refused(prepared, tmp_path):
    command = "run fcam prepare --dataset="
    message = complaint(lambda: opened(tmp_path / "no"))
    assert (
        f"openimages30k_wsol: is not prepared; {command}openimages --source=DIR --data_dir={tmp_path / 'no'}" in message
    )
    assert f"{command}cub" in complaint(lambda: opened(prepared, name="cub_wsol"))
    assert "known: caltech_birds2011, cub_wsol, ilsvrc_wsol, openimages30k_wsol" in complaint(
        lambda: Prepared(root=str(prepared), tfds="cub")
    )
    assert "known: test, train, val" in complaint(lambda: opened(prepared, split="training"))
    assert "has 100 classes, but data.num_classes is 200" in complaint(lambda: opened(prepared, num_classes=200))


def test_another_version_or_format_is_refused(prepared):
    folder = prepared / "openimages30k_wsol/1.0.0"
    facts = (folder / "metadata.json").read_bytes()
    (folder / "metadata.json").unlink()
    assert f"{folder}: cannot be read" in complaint(lambda: opened(prepared))
    (folder / "metadata.json").write_bytes(facts)
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    assert f"{folder}: is stored as tfrecord; remove it and run" in complaint(lambda: opened(prepared))
    (folder / "dataset_info.json").write_text("{")
    assert f"{folder}: cannot be read" in complaint(lambda: opened(prepared))
    folder.rename(folder.with_name("0.9.0"))
    assert "is prepared in version 0.9.0, but 1.0.0 is needed; run fcam prepare" in complaint(lambda: opened(prepared))


BIRDS = [(label, i) for label in range(3) for i in range(8)]


def bird_name(label: int, i: int) -> str:
    return f"{label + 1:03d}.Bird/{'ABCDEFGH'[i]}_{label}.jpg"


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """The features of TFDS's caltech_birds2011, in three classes: 8 training images each, one test image."""
    import tensorflow_datasets as tfds

    class Birds(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "caltech_birds2011"
        VERSION = tfds.core.Version("0.2.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(),
                "image/filename": tfds.features.Text(),
                "label": tfds.features.ClassLabel(num_classes=3),
                "label_name": tfds.features.Text(),
                "bbox": tfds.features.BBoxFeature(),
                "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._examples(BIRDS), "test": self._examples([(label, 0) for label in range(3)])}

        def _generate_examples(self):
            raise NotImplementedError

        def _examples(self, birds):
            for label, i in birds:
                name = f"CUB_200_2011/images/{bird_name(label, i)}"
                example = {
                    "image": io.BytesIO(encoded(10 * label + i, (30, 20))),
                    "image/filename": name,
                    "label": label,
                    "label_name": "bird",
                    "bbox": tfds.features.BBox(ymin=i / 20, xmin=(1 + i) / 30, ymax=19 / 20, xmax=1.0),
                    "segmentation_mask": io.BytesIO(encoded(i, (30, 20), "PNG")),
                }
                yield name, example

    folder = tmp_path_factory.mktemp("stock")
    builder = Birds(data_dir=folder, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return folder


def birds(stock, split) -> TfdsSource:
    return TfdsSource(name="caltech_birds2011", split=split, data_dir=stock, num_classes=3)


def test_the_stock_birds_are_split_by_file_name(stock):
    train, val, test = (birds(stock, split) for split in ("train", "val", "test"))
    assert [r.image_id for r in train] == [bird_name(label, i) for label, i in BIRDS if i < 3]
    assert [r.image_id for r in val] == [bird_name(label, i) for label, i in BIRDS if i >= 3]
    assert [r.image_id for r in test] == [bird_name(label, 0) for label in range(3)]
    assert len({source.fingerprint for source in (train, val, test)}) == 3
    assert train.class_names == ("001.Bird", "002.Bird", "003.Bird") and val.truth


def test_the_stock_birds_have_their_pixels_labels_and_boxes(stock):
    for record, (label, i) in zip(birds(stock, "val"), [bird for bird in BIRDS if bird[1] >= 3], strict=True):
        np.testing.assert_array_equal(record.image, decode_image(encoded(10 * label + i, (30, 20)), "expected"))
        assert record.label == label and record.mask is None
        assert record.boxes.tolist() == [[1 + i, i, 30, 19]]


@pytest.mark.parametrize(
    ("image_ids", "labels", "names"),
    [
        (["x/b/1", "x/a/1", "x/b/2"], [0, 1, 0], ("b", "a")),
        (["b/1", "a/1", "c/2"], [0, 1, 0], None),
        (["a/1", "a/2"], [0, 1], None),
        (["1", "2"], [0, 1], None),
        (["a/1"], [0], None),
    ],
)
def test_classes_with_one_folder_each_have_its_name(image_ids, labels, names):
    assert folder_names(image_ids, np.array(labels), 2) == names


def test_a_sample_shows_boxes_and_outlines():
    mask = np.zeros((120, 60), bool)
    mask[40:80, 20:40] = True
    record = Record(np.zeros((120, 60, 3), np.uint8), 0, "x", np.array([[10, 20, 50, 100]]), mask)
    pixels = np.asarray(drawn(record))
    assert pixels.shape == (240, 120, 3)  # twice the size
    red, green = (230, 60, 40), (40, 200, 90)
    assert tuple(pixels[40, 60]) == tuple(pixels[100, 20]) == tuple(pixels[200, 60]) == red
    assert tuple(pixels[80, 60]) == tuple(pixels[120, 40]) == tuple(pixels[159, 79]) == green
    assert not pixels[120, 60].any() and not pixels[60, 60].any() and not pixels[10, 10].any()
