"""The stages of an experiment one after the other, in this process, on a tiny data set and four devices."""

import collections
import dataclasses
import itertools
import json
import shutil
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from staged import evaluate_stages, train_stages, trained_model

from configs import synthetic
from fcam_jax.configuration import override
from fcam_jax.data import synthetic as synthetic_data
from fcam_jax.errors import InputError
from fcam_jax.evaluation.gain import Gain
from fcam_jax.evaluation.settings import EvaluationSettings
from fcam_jax.runs import build, experiment, stage_evaluation
from fcam_jax.runs import folder as run_folder
from fcam_jax.runs.folder import claim, training_hash
from fcam_jax.runs.prediction.network import trained_network
from fcam_jax.runs.report import paper
from fcam_jax.runs.report.runs import read_examples, read_run
from fcam_jax.runs.trained import evaluate_checkpoint, load_trained
from fcam_jax.runtime import provenance
from fcam_jax.runtime.text import file_name
from fcam_jax.training import manifest
from fcam_jax.training.metric_log import MetricLog, logged

pytestmark = pytest.mark.slow

SMALL = {
    "data.size": 32,
    "data.resize": 36,
    "data.batch_size": 8,
    "data.synthetic.train": 24,
    "data.synthetic.val": 8,
    "data.synthetic.test": 10,
    "model.decoder_widths": (8, 8, 4, 4),
    "classifier.epochs": 1,
    "fcam.epochs": 1,
    "fcam.pictures_epochs": 0,
    "evaluation.batch_size": 8,
    "evaluation.pictures": 3,
    "evaluation.examples": 2,
    "evaluation.threshold_step": 0.01,
    "evaluation.bootstrap": 20,
    "validation.threshold_step": 0.1,
}
# Of a run that is evaluated once more: nothing but its figures.
FIGURES_ALONE = {"evaluation__pictures": 0, "evaluation__examples": 0, "evaluation__bootstrap": 0}
# The checkout may change while tests run.
PROGRAM = {"version": "1.2.3", "commit": "0123456789abcdef", "modified": False}


def config(**values):
    settings = synthetic.get_config()
    override(settings, SMALL | values_of(values))
    return settings


def plan(**values):
    return build.experiment(config(**values))


@pytest.fixture(scope="module", autouse=True)
def later_is_better():
    """Validation finds every model better than the one before, so that a trained one is kept after so few steps."""
    validation = experiment._validation

    def rising(plan, stage, model):
        validate = validation(plan, stage, model)

        def risen(state):
            more = 100 * float(state.step)
            return {k: v if k.endswith("_threshold") else v + more for k, v in validate(state).items()}

        return risen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "_validation", rising)
        yield


@pytest.fixture(scope="module")
def classifier_alone(tmp_path_factory):
    """The folder of a run that ends with the classifier."""
    folder, options = tmp_path_factory.mktemp("classifier_alone"), {"last_stage": "classifier", **FIGURES_ALONE}
    claim(folder, config(**options).to_dict())
    train_stages(plan(**options), folder)
    evaluate_stages(plan(**options), folder, "0123456789ab")
    return folder


@pytest.fixture(scope="module")
def trained(classifier_alone, tmp_path_factory):
    """The folder of a run that nothing interrupted and that went on to F-CAM."""
    folder = shutil.copytree(classifier_alone, tmp_path_factory.mktemp("trained") / "run")
    recorded_run(folder)
    train_stages(plan(), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "program", lambda: PROGRAM)
        evaluate_stages(plan(), folder, "0123456789ab")
    return folder


def recorded_run(folder):
    """The folder, with the record of the configuration in it."""
    claim(folder, config().to_dict())
    return folder


def values_of(options):
    """Settings by their own names."""
    return {name.replace("__", "."): value for name, value in options.items()}


@nnx.jit
def class_scores(classifier, images):
    return classifier(images, train=False)[1]


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_the_results_hold_figures_and_how_they_came_about(trained):
    found = results(trained)
    assert (found["split"], found["images"], found["config_hash"]) == ("test", 10, "0123456789ab")
    assert (found["encoder"], found["cam"], found["image_size"]) == ("small", "cam", 32)
    assert list(found["methods"]) == ["Center", "CAM", "F-CAM, no threshold", "F-CAM"]
    assert list(found["checkpoints"]) == ["CAM", "F-CAM"]
    assert (found["program"], found["machine"]) == (PROGRAM, provenance.machine())
    for name, stage in (("CAM", "classifier"), ("F-CAM", "fcam")):
        figures, checkpoint = found["methods"][name], found["checkpoints"][name]
        assert {"MaxBoxAcc", "MaxBoxAccV2", "PxAP", "top1_loc", "top1_cls", "MaxBoxAcc_threshold"} <= figures.keys()
        assert all(0 <= value <= 100 for value in figures.values())
        assert checkpoint["stage"] == stage and checkpoint["step"] == 3
        at_val = {name for name in figures if name.endswith("_at_val")}
        without_a_hit = {"MaxBoxAcc_threshold"}
        assert (checkpoint["val"].keys() ^ (figures.keys() - at_val)) - without_a_hit == {"images"}
        assert figures["BoxAcc_at_val"] <= figures["MaxBoxAcc"]
    pictures = sorted(path.name for path in (trained / "pictures").iterdir())
    assert pictures == ["box_accuracy.png", "test_grid.png", "training_batch.png"]


def test_baselines_share_the_classifier_and_every_row_leaves_a_record(trained):
    methods = results(trained)["methods"]
    assert len({figures["top1_cls"] for figures in methods.values()}) == 1
    assert methods["Center"]["MaxBoxAcc"] != methods["CAM"]["MaxBoxAcc"]
    decision = json.loads((trained / "evaluation" / f"{file_name('F-CAM, no threshold')}.json").read_text())
    assert len(set(decision["curves"]["MaxBoxAcc"])) == 1
    for row in methods:
        record = json.loads((trained / "evaluation" / f"{file_name(row)}.json").read_text())
        assert (record["images"], record["split"]) == (10, "test")
        assert sum(record["histogram"]["counts"]) == 10 * 32 * 32
        assert record["precision_recall"]


def test_another_split_is_evaluated_into_a_folder_of_its_own(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    table = evaluate_stages(plan(**FIGURES_ALONE), tmp_path / "run", "0123456789ab", "val")
    assert table.startswith("val, percent")
    assert results(tmp_path / "run" / "val")["images"] == 8
    assert results(tmp_path / "run") == results(trained)


def test_a_gain_that_may_be_chance_is_told_after_the_table_and_in_the_results(trained, tmp_path, monkeypatch):
    found, methods = results(trained)["gain"], results(trained)["methods"]
    assert (found["of"], found["over"], found["figure"]) == ("F-CAM", "CAM", "MaxBoxAcc")
    assert found["points"] == pytest.approx(methods["F-CAM"]["MaxBoxAcc"] - methods["CAM"]["MaxBoxAcc"])
    low, high = found["interval_95"]
    assert low <= high and found["better"] == (low > 0)
    shutil.copytree(trained, tmp_path / "run")
    told = {}
    for low in (-1.5, 0.5):
        monkeypatch.setattr(stage_evaluation, "gain", lambda old, new, low=low: Gain("PxAP", 3.0, (low, 7.5), low > 0))
        told[low] = evaluate_stages(plan(**FIGURES_ALONE), tmp_path / "run", "0123456789ab")
    warning = "F-CAM is not surely better than CAM: PxAP +3.0 (95 % interval -1.5 to +7.5); see docs/poor_results.md"
    assert told[-1.5] == f"{told[0.5]}\n\nwarning: {warning}"


def test_results_hold_intervals_and_parts(trained):
    found = results(trained)
    for row, figures in found["methods"].items():
        assert found["intervals_95"][row].keys() == figures.keys() - {"threshold_at_val"}
        for parts in (found["by_size"][row], found["by_class"][row]):
            assert sum(part["images"] for part in parts.values()) == 10


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("", "fcam_best_3"),
        ("fcam", "fcam_best_3"),
        ("classifier/checkpoints/best", "classifier_best_3"),
        ("classifier/checkpoints/latest/0", "classifier_latest_0"),
        ("fcam/checkpoints/latest/3", "fcam_latest_3"),
    ],
)
def test_a_checkpoint_is_found_by_its_path(trained, path, name):
    found = load_trained(trained / path)
    assert found.name == name
    assert found.record["val"]["MaxBoxAcc"] >= 0
    assert hasattr(found.model, "decoder") == name.startswith("fcam")


def test_a_checkpoint_is_evaluated_alone(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    run = recorded_run(tmp_path / "run")
    table = evaluate_checkpoint(run / "fcam" / "checkpoints" / "latest")
    assert table.startswith("test, percent")
    found, before = results(run / "fcam_latest_3"), results(run)
    assert found["checkpoints"]["F-CAM"]["kind"] == "latest"
    assert list(found["methods"]) == ["F-CAM, no threshold", "F-CAM"]
    assert found["methods"]["F-CAM"] == before["methods"]["F-CAM"]
    assert [record.row for record in read_run(run / "fcam_latest_3").records] == ["F-CAM", "F-CAM, no threshold"]
    assert results(run) == before

    evaluate_checkpoint(
        run / "classifier" / "checkpoints" / "latest" / "0", split="val", values=values_of(FIGURES_ALONE)
    )
    untrained = results(run / "classifier_latest_0_val")
    assert (untrained["split"], untrained["images"]) == ("val", 8)
    assert untrained["methods"]["CAM"] != before["methods"]["CAM"]


def test_what_is_mirrored_is_called_so_and_its_rows_are_none_of_the_papers(trained, tmp_path):
    evaluate_checkpoint(
        trained / "fcam", out=tmp_path / "out", values=values_of(FIGURES_ALONE) | {"evaluation.mirrored": True}
    )
    found = results(tmp_path / "out")
    assert list(found["methods"]) == ["F-CAM, no threshold, mirrored", "F-CAM, mirrored"]
    assert found["methods"]["F-CAM, mirrored"] != results(trained)["methods"]["F-CAM"]
    run = read_run(tmp_path / "out")
    assert [record.row for record in run.records] == ["F-CAM, mirrored", "F-CAM, no threshold, mirrored"]
    assert paper.method("F-CAM, mirrored", "cam", {}) == paper.PaperMethod("F-CAM, mirrored")


def test_what_is_evaluated_and_predicted_may_be_of_another_size_than_what_is_trained_on(trained, tmp_path):
    evaluate_checkpoint(
        trained / "fcam", out=tmp_path / "out", values=values_of(FIGURES_ALONE) | {"data.test_size": 48}
    )
    found, before = results(tmp_path / "out"), results(trained)
    assert (found["image_size"], found["test_size"]) == (32, 48) and before["test_size"] == 32
    assert found["methods"]["F-CAM"] != before["methods"]["F-CAM"]

    record = build.changed(json.loads((trained / "config.json").read_text()), {"data.test_size": 48})
    data = build.recorded_experiment(record).data
    assert {batch.images.shape[1:3] for split in ("val", "test") for batch, _ in data.evaluated(split)} == {(48, 48)}
    assert next(data.stream(0, None)).images.shape[1:3] == (32, 32)
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text(json.dumps(record))
    network = trained_network(tmp_path / "run")
    assert (network.size, trained_network(trained).size) == (48, 32)


def test_a_report_takes_a_run_from_before_a_setting_of_the_evaluation_for_one_with_the_default(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "older")
    record = json.loads((tmp_path / "older" / "config.json").read_text())
    del record["evaluation"]["mirrored"], record["data"]["test_size"]
    (tmp_path / "older" / "config.json").write_text(json.dumps(record))
    assert read_run(tmp_path / "older").config == read_run(trained).config


def test_a_checkpoint_is_evaluated_with_other_settings_into_another_folder(trained, tmp_path):
    settings = config(data__synthetic__test=4, evaluation__also="MeanBestIoU,PointingGame,InsertionDeletion")
    evaluate_checkpoint(trained / "fcam", settings.to_dict(), tmp_path / "out")
    found = results(tmp_path / "out")
    assert found["images"] == 4
    assert {"MeanBestIoU", "PointingGame", "Insertion", "Deletion"} <= found["methods"]["F-CAM"].keys()
    assert results(trained)["images"] == 10


def test_the_results_of_a_run_are_not_replaced_by_those_of_a_checkpoint(trained):
    before = results(trained)
    with pytest.raises(InputError, match="holds a run, whose results these would replace"):
        evaluate_checkpoint(trained / "fcam", out=trained)
    assert results(trained) == before and set(before["constant_maps"]) == set(before["methods"])


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere", r"nowhere: no such folder"),
        ("fcam/checkpoints/latest/99", "no such folder"),
        ("evaluation", r"is no checkpoint; give .*, .*classifier or .*fcam, or there checkpoints/best"),
        ("..", "is no run, stage or checkpoint of this program"),
    ],
)
def test_a_path_that_is_no_checkpoint_is_named(trained, tmp_path, path, words):
    shutil.copytree(trained, tmp_path / "run")
    with pytest.raises(InputError, match=words):
        load_trained(tmp_path / "run" / path)


def test_a_stage_that_is_not_trained_is_named(trained, tmp_path):
    run = recorded_run(tmp_path / "run")
    with pytest.raises(InputError, match="nothing is trained in this run yet"):
        load_trained(run)
    shutil.copytree(trained / "classifier", run / "classifier")
    assert load_trained(run).name == "classifier_best_3"
    (run / "fcam").mkdir()
    with pytest.raises(InputError, match="the stage fcam is not trained in this run yet"):
        load_trained(run / "fcam")
    (run / "config.json").write_text('{"seed": 0}')
    with pytest.raises(InputError, match="of another version of this program"):
        load_trained(run)


def test_a_run_from_before_a_setting_of_the_evaluation_came_is_evaluated_by_its_default(trained):
    record = json.loads((trained / "config.json").read_text())
    older = {**record, "evaluation": {"batch_size": record["evaluation"]["batch_size"]}, "data": {**record["data"]}}
    del older["data"]["test_size"]
    assert build.recorded_experiment(older).evaluation == EvaluationSettings(**older["evaluation"])
    assert build.changed(older, {"evaluation.mirrored": True})["evaluation"]["mirrored"]
    with pytest.raises(InputError, match=r"evaluation\.mirrored"):
        build.changed({**record, "evaluation": 3}, {"evaluation.mirrored": True})


def test_the_second_stage_keeps_the_best_classifier_of_the_first(trained):
    first, second = plan().stages
    untrained = first.build_model(None)
    classifier, _ = trained_model(first, first.build_model(None), trained)
    fcam, _ = trained_model(second, second.build_model(untrained), trained)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)), jnp.uint8)
    logits = class_scores(classifier, images)
    np.testing.assert_array_equal(class_scores(fcam.classifier, images), logits)
    assert np.abs(class_scores(untrained, images) - logits).max() > 0.01
    found = results(trained)["methods"]
    assert found["CAM"]["top1_cls"] == found["F-CAM"]["top1_cls"]


def test_a_call_on_a_trained_run_opens_every_stage_once_and_verifies_every_checkpoint_once(
    trained, tmp_path, monkeypatch
):
    shutil.copytree(trained, tmp_path / "run")
    opened, verified = collections.Counter(), collections.Counter()
    verify, folder = manifest.verify, run_folder.StageFolder

    def counted_folder(path, *args):
        opened[path.name] += 1
        return folder(path, *args)

    def counted_verify(path, place):
        verified[path] += 1
        verify(path, place)

    monkeypatch.setattr(manifest, "verify", counted_verify)
    monkeypatch.setattr(run_folder, "StageFolder", counted_folder)
    with run_folder.RunFolder(tmp_path / "run", training=True) as run:
        experiment.train_stages(plan(**FIGURES_ALONE), run)
        stage_evaluation.evaluate_stages(plan(**FIGURES_ALONE), run, "0123456789ab")
    assert opened == {"classifier": 1, "fcam": 1}
    assert set(verified.values()) == {1} and {path.parents[2].name for path in verified} == {"classifier", "fcam"}


@pytest.mark.long
def test_a_run_that_bad_data_broke_off_ends_like_one_that_it_did_not(trained, tmp_path, monkeypatch):
    draw = synthetic_data.SyntheticSource.__getitem__
    asked, figures_alone = [], plan(**FIGURES_ALONE)
    shutil.copytree(trained / "classifier", tmp_path / "classifier")  # so that it is F-CAM's training

    def broken(self, index):
        if self._split == "train" and index == 5:
            asked.append(index)
            raise InputError("train/000005: cannot be decoded")
        return draw(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(synthetic_data.SyntheticSource, "__getitem__", broken)
        with pytest.raises(InputError, match="train/000005: cannot be decoded"):
            train_stages(figures_alone, tmp_path)
    assert asked
    train_stages(figures_alone, tmp_path)
    evaluate_stages(figures_alone, tmp_path, "0123456789ab")
    for part in ("methods", "checkpoints"):
        assert results(tmp_path)[part] == results(trained)[part]


@pytest.fixture(scope="module")
def cached(trained, tmp_path_factory):
    """A folder with a run that keeps its CAMs, and their cache; a plan of such a run; the images it asked CAMs of."""
    folder, asked = tmp_path_factory.mktemp("cached"), []
    values = {"cam__cache": True, "cam__cache_dir": str(folder / "cache"), **FIGURES_ALONE}

    def watched(**more):
        found = plan(**values | more)
        batches = found.frozen.batches

        def counted(positions):
            asked.extend(positions)
            return batches(positions)

        return dataclasses.replace(found, frozen=dataclasses.replace(found.frozen, batches=counted))

    shutil.copytree(trained / "classifier", folder / "first" / "classifier")
    train_stages(watched(), folder / "first")
    evaluate_stages(watched(), folder / "first", "0")
    return folder, watched, asked


def test_cams_are_computed_once_for_all_runs_that_share_a_cache(trained, cached, tmp_path, monkeypatch):
    folder, watched, asked = cached
    assert sorted(asked) == list(range(24))
    (path,) = (folder / "cache").glob("*.rows")
    rows = np.fromfile(path, np.dtype([("maps", np.float16, (5, 5)), ("done", "u1")], align=True))
    assert rows["done"].tolist() == [1] * 24 and rows["maps"].min() == 0 and rows["maps"].max() == 1
    assert results(trained)["methods"]["F-CAM"] != results(folder / "first")["methods"]["F-CAM"]
    train_stages(watched(), folder / "first")  # finished: nothing is asked for, not even of an empty cache
    train_stages(watched(cam__cache_dir=str(tmp_path / "empty")), folder / "first")
    shutil.copytree(trained / "classifier", tmp_path / "second" / "classifier")
    monkeypatch.setattr(experiment, "make_train_step", mock.Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # it has its CAMs by then
        train_stages(watched(fcam__seeds__erosion=0.15), tmp_path / "second")
    assert len(asked) == 24


@pytest.mark.long
def test_another_fcam_is_trained_on_the_same_cams(trained, cached, tmp_path):
    folder, watched, asked = cached
    second = shutil.copytree(trained / "classifier", tmp_path / "second" / "classifier").parent
    train_stages(watched(fcam__seeds__erosion=0.15), second)
    evaluate_stages(watched(), second, "0")
    assert results(folder / "first")["methods"]["F-CAM"] != results(second)["methods"]["F-CAM"]
    assert sorted(asked) == list(range(24))


ON_FEATURES = {"fcam__features": 2, "fcam__epochs": 2, "train__checkpoint_steps": 2, **FIGURES_ALONE}


@pytest.fixture(scope="module")
def on_features(trained, tmp_path_factory):
    """The folder of a run whose F-CAM is trained on features of fixed crops."""
    folder = tmp_path_factory.mktemp("on_features")
    shutil.copytree(trained / "classifier", folder / "classifier")
    train_stages(plan(**ON_FEATURES), folder)
    evaluate_stages(plan(**ON_FEATURES), folder, "0")
    return folder


def resumed_on_features(folder):
    """The figures of a run that goes on and finds all of its features."""
    found = plan(**ON_FEATURES)
    unasked = dataclasses.replace(found.frozen, batches=lambda positions: pytest.fail("computed twice"))
    train_stages(dataclasses.replace(found, frozen=unasked), folder)
    evaluate_stages(plan(**ON_FEATURES), folder, "0")
    return results(folder)["methods"]


def test_features_of_fixed_crops_are_computed_once_and_a_training_on_them_goes_on(trained, on_features, tmp_path):
    (path,) = (on_features / "cams").glob("*.rows")
    assert len(json.loads(path.with_suffix(".json").read_text())["sha256"]) == 64
    parts = shutil.copytree(on_features, tmp_path / "parts")
    shutil.rmtree(parts / "fcam" / "checkpoints" / "latest" / "6")  # as if it had been killed in the last
    assert resumed_on_features(parts) == results(on_features)["methods"] != results(trained)["methods"]


@pytest.mark.long
def test_a_training_on_features_that_is_interrupted_ends_like_the_whole_one(
    trained, on_features, tmp_path, monkeypatch
):
    shutil.copytree(trained / "classifier", tmp_path / "classifier")
    made = experiment.make_train_step

    def failing(*given, **options):
        step, done = made(*given, **options), itertools.count()

        def stopped(*given):
            if next(done) == 3:
                raise KeyboardInterrupt
            return step(*given)

        return stopped

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(experiment, "make_train_step", failing)
        train_stages(plan(**ON_FEATURES), tmp_path)
    assert resumed_on_features(tmp_path) == results(on_features)["methods"]


def test_a_cache_of_cams_that_cannot_be_used_is_told_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("")
    broken = plan(cam__cache=True, cam__cache_dir=str(tmp_path / "file" / "cams"))
    with pytest.raises(InputError, match=r"config.cam.cache: .*file/cams cannot be used: Not a directory"):
        train_stages(broken, tmp_path / "run")
    assert not (tmp_path / "run" / "classifier").exists()


def test_figures_do_not_depend_on_the_evaluation_batch(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    evaluate_stages(plan(**FIGURES_ALONE, evaluation__batch_size=4), tmp_path / "run", "another hash")
    assert results(tmp_path / "run")["methods"] == results(trained)["methods"]
    assert results(tmp_path / "run")["config_hash"] == "another hash"


def test_an_untrained_stage_cannot_be_evaluated(tmp_path):
    with pytest.raises(InputError, match=r"no checkpoint in .*classifier/checkpoints; train first"):
        evaluate_stages(plan(), tmp_path, "0")
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("key", ["data__batch_size", "evaluation__batch_size"])
def test_batches_that_cannot_be_spread_are_told_before_the_first_step(tmp_path, key):
    assert jax.device_count() == 4
    with pytest.raises(InputError, match=r"a batch of 6 images .* must each be a multiple of the 4 devices"):
        train_stages(plan(**{key: 6}), tmp_path)
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_an_unknown_selection_metric_is_told_before_the_first_step(tmp_path):
    with pytest.raises(InputError, match=r"unknown config\.validation\.selection 'accuracy'; known: .*MaxBoxAcc"):
        train_stages(plan(validation__selection="accuracy"), tmp_path)
    assert not list(tmp_path.rglob("checkpoints/*/*"))


def test_a_run_that_ended_with_the_classifier_goes_on_to_fcam(classifier_alone, trained):
    assert results(classifier_alone)["checkpoints"].keys() == {"CAM"}
    assert results(trained)["checkpoints"].keys() == {"CAM", "F-CAM"}
    first, second = (training_hash(config(last_stage=stage).to_dict()) for stage in ("classifier", "fcam"))
    assert first == second
    for folder in (classifier_alone, trained):
        (best,) = (folder / "classifier" / "checkpoints" / "best").glob("3")
        assert best.is_dir()


def opened(folder):
    with run_folder.RunFolder(folder) as run:
        run.last_trained(["classifier", "fcam"])
        return [run.stage(name).pretrained() for name in ("classifier", "fcam")]


def read(folder, path):
    """Read of a run what a file is read for."""
    match path.name:
        case "config.json":
            claim(folder, config().to_dict()), load_trained(folder)
        case "run.json" | "manifest.json":
            opened(folder)
        case "metrics.jsonl":
            logged(path.parent, "val"), MetricLog(path.parent, 3, 3).close(), read_run(folder)
        case _:
            read_run(folder), read_examples(folder, ["CAM", "F-CAM"])


def test_whatever_a_record_of_a_run_holds_is_told_in_a_line(trained, tmp_path):
    chance = np.random.default_rng(0)
    folder = shutil.copytree(trained, tmp_path / "run")
    whole = {path: path.read_bytes() for path in sorted(folder.rglob("*.json*")) if path.parent.name != "model"}
    assert {path.name for path in whole} >= {"config.json", "run.json", "manifest.json", "metrics.jsonl", "CAM.json"}
    for path, data in whole.items():
        cut = int(chance.integers(len(data)))
        flipped = bytearray(data)
        flipped[cut] ^= 0x10
        junk = [b"[]", b'{"run": [], "kind": 3, "step": "x"}', b"\0" * 64, b"[" * 10**5, b"\xff\xfe{"]
        for damaged in (data[:cut], bytes(flipped), data[:cut] + b"9" * 5000 + data[cut:], *junk):
            path.write_bytes(damaged)
            try:
                read(folder, path)
            except InputError as error:
                assert str(error).isprintable() and len(str(error)) < 1000, path
        path.write_bytes(data)
    assert load_trained(folder).record == load_trained(trained).record
