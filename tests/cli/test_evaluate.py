"""Score maps in a folder to figures: the golden values, the evaluator of training, and what a folder may get wrong."""

import csv
import json
import os
import pathlib

import numpy as np
import PIL.Image
import pytest

from fcam_jax.cli.command import main
from fcam_jax.evaluation.boxes import box_iou, largest_box
from fcam_jax.evaluation.evaluator import evaluate
from fcam_jax.evaluation.findings import Wanted
from fcam_jax.evaluation.metrics import kinds
from fcam_jax.types import Annotation, Batch, Localization

COUNT, SIDE, CLASSES = 12, 16, 6


class Folder:
    """Score maps, metadata and predictions on disk, and the command on them."""

    def __init__(self, root: pathlib.Path):
        self.maps, self.metadata, self.predictions = root / "maps", root / "test", root / "predictions.csv"
        self.masks, self.out, self.rows = root / "masks", root / "metrics.json", root / "rows.csv"
        self.metadata.mkdir()

    def write(self, name, lines):
        (self.metadata / f"{name}.txt").write_text("\n".join(lines))

    def map_of(self, image_id):
        return self.maps / f"{image_id}.npy"

    def save(self, image_id, score_map):
        self.map_of(image_id).parent.mkdir(parents=True, exist_ok=True)
        np.save(self.map_of(image_id), score_map)

    def run(self, *options):
        main(["evaluate", f"--scoremaps={self.maps}", f"--metadata={self.metadata}", f"--out={self.out}", *options])
        return json.loads(self.out.read_text())

    def complaint(self, *options):
        """The one line that a failing command leaves, and no result."""
        with pytest.raises(SystemExit) as exit_info:
            self.run(*options)
        line = str(exit_info.value)
        assert line.startswith("error: ") and "\n" not in line and not self.out.exists()
        return line


def image_id(i):
    return f"class{i % 3}/a bird, {i}.jpg"


@pytest.fixture
def data():
    """Score maps, boxes in the maps' frame, labels and ordered predictions of a small split."""
    rng = np.random.default_rng(0)
    maps, boxes = rng.random((COUNT, SIDE, SIDE)).astype(np.float32), []
    for score_map in maps:
        x, y, w, h = rng.integers(1, 8, 4).tolist()
        score_map[y : y + h, x : x + w] += rng.uniform(0, 1.2)
        score_map -= score_map.min()
        score_map /= score_map.max()
        boxes.append([x, y, x + w, y + h])
    labels = rng.integers(0, CLASSES, COUNT)
    scores = rng.random((COUNT, CLASSES)) + 0.4 * np.eye(CLASSES)[labels]
    return maps, np.array(boxes), labels, np.argsort(-scores, axis=1)


@pytest.fixture
def folder(tmp_path, data):
    """The split on disk; images of 3 x 2 times the maps' frame."""
    maps, boxes, labels, predictions = data
    folder, ids = Folder(tmp_path), [image_id(i) for i in range(COUNT)]
    for name, score_map in zip(ids, maps, strict=True):
        folder.save(name, score_map)
    folder.write("image_ids", ids)
    folder.write("class_labels", [f"{name},{label}" for name, label in zip(ids, labels, strict=True)])
    folder.write("image_sizes", [f"{name},{3 * SIDE},{2 * SIDE}" for name in ids])
    scaled = boxes * (3, 2, 3, 2)
    folder.write("localization", [",".join([n, *map(str, box)]) for n, box in zip(ids, scaled, strict=True)])
    folder.predictions.write_text("\n".join(",".join([n, *map(str, p)]) for n, p in zip(ids, predictions, strict=True)))
    return folder


@pytest.fixture
def command(folder):
    """The command on the small split."""
    return lambda *options: folder.run(f"--size={SIDE}", "--threshold_step=.01", *options)


def test_boxes_and_classes_are_the_reference_programs(shared, tmp_path):
    golden = np.load(shared / "golden/evaluation/boxeval224.npz")
    folder = Folder(tmp_path)
    lines = {name: [] for name in ("image_ids", "class_labels", "image_sizes", "localization", "predictions")}
    truths = np.split(golden["boxes"], np.cumsum(golden["box_count"])[:-1])
    for i, score_map in enumerate(golden["maps"]):
        folder.save(image_id(i), score_map)
        lines["image_ids"].append(image_id(i))
        lines["class_labels"].append(f"{image_id(i)},{golden['targets'][i]}")
        lines["image_sizes"].append(",".join([image_id(i), *map(str, golden["sizes_wh"][i])]))
        lines["localization"] += [",".join([image_id(i), *map(str, box)]) for box in truths[i]]
        lines["predictions"].append(",".join([image_id(i), *map(str, golden["preds_ordered"][i])]))
    folder.predictions.write_text("\n".join(lines.pop("predictions")))
    for name, text in lines.items():
        folder.write(name, text)

    result = folder.run(f"--predictions={folder.predictions}")
    assert result["images"] == 24 and result["metrics"]["MaxBoxAcc"] == pytest.approx(41.666667, abs=1e-6)
    expected = {"MaxBoxAcc": ("numcorrect_p001_single", 1), "top1_loc": ("top1_p001_single", 1)}
    expected |= {"top5_loc": ("top5_p001_single", 1)}
    expected |= {f"BoxAccV2_{sigma}": ("numcorrect_p001_multi", i) for i, sigma in enumerate((30, 50, 70))}
    for name, (key, row) in expected.items():
        assert result["correct"][name] == golden[key][row].tolist(), name
        assert result["metrics"][name] == 100 * golden[key][row].max() / 24
    assert result["best_thresholds"]["MaxBoxAcc"] == golden["besttau_p001_single"][1]
    assert [result["best_thresholds"][f"BoxAccV2_{s}"] for s in (30, 50, 70)] == golden["besttau_p001_multi"].tolist()
    assert result["metrics"]["MaxBoxAccV2"] == pytest.approx(golden["max_p001_multi"].mean(), abs=1e-12)
    assert result["constant_maps"] == [image_id(22)]


def test_masks_are_the_reference_programs(shared, tmp_path):
    golden = np.load(shared / "golden/evaluation/maskeval.npz")
    folder, ids, masks = Folder(tmp_path), [], []
    folder.masks.mkdir()
    for i, score_map in enumerate(golden["maps"]):
        ids.append(f"{i:02}.jpg")
        folder.save(ids[-1], score_map)
        names = [f"mask_{i:02}_{j}" for j in range(golden["inst_count"][i])]
        for name in [*names, f"ignore_{i:02}"]:
            bits = np.unpackbits(golden[name], axis=1, count=golden["dims_hw"][i][1])
            PIL.Image.fromarray(255 * bits).save(folder.masks / f"{name}.png")
        masks += [f"{ids[-1]},{name}.png,{'' if j else f'ignore_{i:02}.png'}" for j, name in enumerate(names)]
    folder.write("image_ids", ids)
    folder.write("class_labels", [f"{name},0" for name in ids])
    folder.write("image_sizes", [])
    folder.write("localization", masks)

    result = folder.run(f"--masks={folder.masks}", f"--per_image={folder.rows}")
    assert result["metrics"].keys() == {"PxAP"}
    assert result["metrics"]["PxAP"] == pytest.approx(73.73091149179852, abs=1e-10)
    assert result["pixels"]["foreground"] == golden["hist_true_p001"].tolist()
    assert result["pixels"]["background"] == golden["hist_false_p001"].tolist()
    with folder.rows.open(newline="") as file:
        alone = [float(row["PxAP"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(alone, golden["pxap_per_image_p001"], atol=1e-10)


def test_figures_are_those_of_the_evaluator_that_training_uses(data, folder, command):
    maps, boxes, labels, predictions = data
    logits = -np.argsort(predictions, axis=1).astype(np.float32)
    batch = Batch(np.zeros((COUNT, SIDE, SIDE, 3), np.uint8), labels, np.arange(COUNT), np.ones(COUNT, np.float32))
    truth = [Annotation(image_id(i), int(labels[i]), boxes[i : i + 1]) for i in range(COUNT)]
    settings = Wanted(step=0.01, kinds=kinds(("PointingGame", "MeanBestIoU")), bootstrap=20, parts=True)
    expected = evaluate(lambda _: {"m": Localization(maps, logits)}, [(batch, truth)], settings)["m"]
    result = command(f"--predictions={folder.predictions}", "--also=PointingGame,MeanBestIoU", "--bootstrap=20")
    assert result["metrics"] == expected.metrics
    assert result["intervals_95"] == {name: list(ends) for name, ends in expected.intervals.items()}
    assert result["by_size"] == expected.by_size
    assert result["by_class"] == {str(label): figures for label, figures in expected.by_class.items()}
    assert 0 < result["metrics"]["top1_loc"] < result["metrics"]["MaxBoxAcc"] < 100
    assert result["thresholds"] == expected.thresholds.tolist()


def test_maps_that_hit_nothing_have_no_best_threshold(folder, command, capsys):
    for i in range(COUNT):
        folder.save(image_id(i), np.pad(np.ones((1, 1), np.float32), ((15, 0), (15, 0))))  # the last pixel
    result = command(f"--per_image={folder.rows}")
    assert result["metrics"]["MaxBoxAcc"] == 0 and "MaxBoxAcc" not in result["best_thresholds"]
    assert "no box hits at any threshold, so none is best: those of the rows are at 0.5" in capsys.readouterr().err
    assert {row["threshold"] for row in csv.DictReader(folder.rows.read_text().splitlines())} == {"0.5"}


def test_a_row_per_image_adds_up_to_the_figures(data, folder, command):
    result = command(f"--per_image={folder.rows}", f"--predictions={folder.predictions}", "--also=MeanBestIoU")
    with folder.rows.open(newline="") as file:
        rows = list(csv.DictReader(file))
    maps, boxes, labels, predictions = data
    assert [row["image_id"] for row in rows] == [image_id(i) for i in range(COUNT)]
    assert [int(row["label"]) for row in rows] == labels.tolist()
    assert [predictions[i][int(row["rank"])] for i, row in enumerate(rows)] == labels.tolist()
    tau = result["best_thresholds"]["MaxBoxAcc"]
    for row, score_map, truth in zip(rows, maps, boxes, strict=True):
        box = [int(row[corner]) for corner in ("x0", "y0", "x1", "y1")]
        assert box == largest_box(score_map.astype(np.float64), tau).tolist()
        assert float(row["iou"]) == box_iou(np.array([box]), truth[None]).item() and float(row["threshold"]) == tau
    assert 100 * np.mean([int(row["correct"]) for row in rows]) == pytest.approx(result["metrics"]["MaxBoxAcc"])
    mean = 100 * np.mean([float(row["iou"]) for row in rows])
    assert mean == pytest.approx(result["metrics"]["MeanBestIoU"], abs=1e-7)


def test_accuracy_at_a_given_threshold_says_so(folder, command, capsys):
    result = command("--at_threshold=0.35", f"--per_image={folder.rows}")
    position = np.abs(np.array(result["thresholds"]) - 0.35).argmin()
    assert result["metrics"]["BoxAcc_at_0.35"] == pytest.approx(100 * result["correct"]["MaxBoxAcc"][position] / COUNT)
    assert result["metrics"]["BoxAcc_at_0.35"] < result["metrics"]["MaxBoxAcc"]
    table = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert table["BoxAcc_at_0.35"].endswith("0.35 (given)") and table["MaxBoxAcc"].endswith("(best)")
    with folder.rows.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["threshold"] for row in rows} == {"0.35"}
    assert 100 * np.mean([int(row["correct"]) for row in rows]) == pytest.approx(result["metrics"]["BoxAcc_at_0.35"])


def test_parts_of_the_split_average_to_the_whole(folder, command):
    result = command(f"--predictions={folder.predictions}", "--also=PointingGame")
    pairs = {"BoxAcc_at_best": "MaxBoxAcc", "BoxAccV2_at_best": "MaxBoxAccV2", "top1_loc_at_best": "top1_loc"}
    pairs |= {name: name for name in ("top1_cls", "PointingGame", "PointingGame_15px")}
    for parts in (result["by_class"], result["by_size"]):
        assert len(parts) > 1 and sum(part["images"] for part in parts.values()) == COUNT
        for part, whole in pairs.items():
            mean = sum(values["images"] * values[part] for values in parts.values()) / COUNT
            assert mean == pytest.approx(result["metrics"][whole]), part


def test_intervals_enclose_every_figure_and_repeat(command):
    first = command("--bootstrap=200", "--also=MeanBestIoU,PointingGame")
    assert first["intervals_95"].keys() == first["metrics"].keys()
    for name in ("MaxBoxAcc", "MeanBestIoU", "PointingGame"):
        low, high = first["intervals_95"][name]
        assert low < first["metrics"][name] < high
    assert command("--bootstrap=200", "--also=MeanBestIoU,PointingGame") == first
    assert command("--bootstrap=200", "--seed=1")["intervals_95"]["MaxBoxAcc"] != first["intervals_95"]["MaxBoxAcc"]


def test_maps_beyond_the_range_are_scaled_on_demand(data, folder, command):
    expected = command()
    for i, score_map in enumerate(data[0]):
        folder.save(image_id(i), 8 * score_map.astype(np.float64) - 4)
    assert command("--minmax")["metrics"] == expected["metrics"]


def test_constant_and_surplus_maps_are_told_of(folder, command, capsys):
    folder.save(image_id(1), np.full((SIDE, SIDE), 0.5))
    folder.save("class0/old.jpg", np.ones((SIDE, SIDE)))
    result = command(f"--per_image={folder.rows}")
    assert result["constant_maps"] == [image_id(1)] and result["surplus_maps"] == 1 and result["images"] == COUNT
    with folder.rows.open(newline="") as file:
        row = list(csv.DictReader(file))[1]
    assert [row[corner] for corner in ("x0", "y0", "x1", "y1")] == ["0"] * 4
    warnings = capsys.readouterr().err.splitlines()
    assert warnings[0].endswith("1 map(s) of no image are left out: class0/old.jpg.npy")
    assert warnings[1] == f"warning: 1 constant map(s) count as 0 everywhere: {image_id(1)}"


def test_lists_too_short_for_top_5_give_none(data, folder, command, capsys):
    _, _, labels, predictions = data
    first = [f"{image_id(i)},{predictions[i][0]}" for i in range(COUNT)]
    folder.predictions.write_text("\n".join(first))
    result = command(f"--predictions={folder.predictions}")
    assert result["metrics"]["top1_cls"] == pytest.approx(100 * np.mean(predictions[:, 0] == labels))
    assert "top5" not in json.dumps(result) and "no top-5 figures" in capsys.readouterr().err


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def damage(folder, kind):
    """Do one thing wrong; returns the options to run with."""
    path = folder.map_of(image_id(1))
    good = np.load(path)
    bad = {
        "integers": (255 * good).astype(np.uint8),
        "three axes": good[None],
        "NaN": np.where(good > 0.9, np.nan, good),
        "infinity": np.where(good > 0.9, np.inf, good),
        "negative": good - 0.25,
        "above one": 2 * good,
        "small, NaN": np.full((4, 4), np.nan),
        "nothing": good[:0],
    }
    if kind in bad:
        np.save(path, bad[kind])
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-7])
    elif kind == "no bytes":
        path.write_bytes(b"")
    elif kind == "pickled":
        np.save(path, np.array([{}, None]), allow_pickle=True)
    elif kind == "box":
        replace(folder.metadata / "localization.txt", f"{image_id(0)},", f"{image_id(0)},1,1,999,9\n{image_id(0)},")
    elif kind == "empty split":
        folder.write("image_ids", [])
    elif kind == "label":
        replace(folder.metadata / "class_labels.txt", f"{image_id(0)},", f"{image_id(0)},9")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("integers", "{map}: holds uint8, must be floating point"),
        ("three axes", "{map}: has shape (1, 16, 16), must be (height, width)"),
        ("NaN", "{map}: holds NaN or infinity"),
        ("infinity", "{map}: holds NaN or infinity"),
        ("negative", "{map}: lies in [-0.25, 0.75]"),
        ("above one", "{map}: lies in [0, 2]"),
        ("small, NaN", "{map}: holds NaN or infinity"),
        ("nothing", "{map}: has shape (0, 16), must be (height, width)"),
        ("truncated", "{map}: cannot be read as an array saved by numpy.save: "),
        ("no bytes", "{map}: cannot be read as an array saved by numpy.save: EOF"),
        ("pickled", "{map}: cannot be read as an array saved by numpy.save: Object arrays cannot be loaded"),
        ("box", "{metadata}/localization.txt, line 1: box must have"),
        ("empty split", "{metadata}/image_ids.txt: lists no images"),
        ("label", "{metadata}/class_labels.txt: label 9"),
    ],
)
def test_what_cannot_be_used_is_one_line_with_the_files_name(folder, kind, reason):
    damage(folder, kind)
    expected = reason.format(map=folder.map_of(image_id(1)), metadata=folder.metadata)
    line = folder.complaint(f"--size={SIDE}", "--threshold_step=.1", "--num_classes=6")
    assert line.startswith(f"error: {expected}")


def test_maps_and_ids_that_differ_are_listed_from_both_sides(folder):
    ids = [f"x{i}.jpg" for i in range(15)]
    folder.write("image_ids", ids)
    folder.write("class_labels", [f"{name},0" for name in ids])
    folder.write("image_sizes", [f"{name},9,9" for name in ids])
    folder.write("localization", [f"{name},1,1,5,5" for name in ids])
    line = folder.complaint()
    assert "15 image(s) without a map <image_id>.npy: x0.jpg, x1.jpg, " in line and "x9.jpg and 5 more" in line
    assert "; 12 map(s) of no image: class0/a bird, 0.jpg.npy, " in line and line.endswith(" and 2 more")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([f"{image_id(0)},1,2"], f": no line for 11 image(s): {image_id(1)}, "),
        (["other,1,2", f"{image_id(0)},1"], ": 1 id(s) that the metadata does not have: other"),
        ([f"{image_id(0)},1,2", f"{image_id(0)},1,2"], f", line 2: {image_id(0)} has a line already"),
        ([f"{image_id(0)},1,6"], ", line 1: class 6 does not exist, classes are [0, 6)"),
        ([f"{image_id(0)},1,-1"], ", line 1: class -1 does not exist, classes are [0, 6)"),
        ([f"{image_id(0)},1,2,1"], ", line 1: a class stands there twice"),
        ([f"{image_id(0)},bird"], ", line 1: expected an image id and class numbers, best first: "),
    ],
)
def test_unusable_predictions_name_their_line(folder, lines, reason):
    folder.predictions.write_text("\n".join(lines))
    line = folder.complaint(f"--predictions={folder.predictions}", "--num_classes=6")
    assert line.startswith(f"error: {folder.predictions}{reason}")


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--out={root}/none/metrics.json", "--out={root}/none/metrics.json cannot be written (No such file"),
        ("--out={root}/test", "--out={root}/test cannot be written (Is a directory)"),
        ("--per_image={root}", "--per_image={root} cannot be written (Is a directory)"),
        ("--out={root}/pipe", "--out={root}/pipe cannot be written (not a file)"),
        ("--per_image={root}/pipe", "--per_image={root}/pipe cannot be written (not a file)"),
        ("--per_image=/dev/null", "--per_image=/dev/null cannot be written (not a file)"),
        ("--scoremaps={root}/none", "--scoremaps={root}/none: no such folder"),
        ("--metadata={root}/none", "{root}/none/image_ids.txt: cannot be read: No such file or directory"),
        ("--predictions={root}/none", "--predictions={root}/none: cannot be read"),
        ("--at_threshold=.3555", "--at_threshold=0.3555 is none of the thresholds; the nearest is 0.35"),
        ("--also=MeanBestIoU,Pointing", "--also names 'Pointing'; known: MeanBestIoU, PointingGame"),
        ("--threshold_step=0", "--threshold_step is 0.0; it must lie in (0, 1]"),
        ("--size=0", "--size is 0; it must be at least 1"),
        ("--bootstrap=-1", "--bootstrap is -1; it must be at least 0"),
    ],
)
def test_options_that_cannot_be_used_are_refused_before_the_work(folder, option, reason):
    folder.map_of(image_id(0)).write_bytes(b"not opened yet")
    os.mkfifo(folder.out.parent / "pipe")
    line = folder.complaint("--threshold_step=.05", option.format(root=folder.out.parent))
    assert line.startswith("error: " + reason.format(root=folder.out.parent))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "{metadata}/localization.txt names masks: give the folder of their paths by --masks"),
        (["--masks={maps}"], "--masks={maps}: 1 mask(s) are not there: m.png"),
        (["--masks={masks}", "--at_threshold=.5"], "--at_threshold needs boxes"),
        (["--masks={masks}", "--also=MeanBestIoU"], "--also=MeanBestIoU needs boxes"),
    ],
)
def test_masks_that_are_not_there_are_named(folder, options, reason):
    places = {"metadata": folder.metadata, "maps": folder.maps, "masks": folder.masks}
    folder.masks.mkdir()
    PIL.Image.fromarray(np.full((9, 9), 255, np.uint8)).save(folder.masks / "m.png")
    folder.write("image_ids", [image_id(0)])
    folder.write("class_labels", [f"{image_id(0)},0"])
    folder.write("localization", [f"{image_id(0)},m.png,"])
    folder.write("image_sizes", [])
    assert folder.complaint(*(option.format(**places) for option in options)).startswith(
        "error: " + reason.format(**places)
    )


@pytest.mark.parametrize(
    ("shape", "size", "fault"),
    [((12, 16), (48, 36), ""), ((16, 12), (48, 36), "turned"), ((7, 10), (37, 50), "turned"), ((16, 16), (48, 36), "")],
)
def test_maps_that_are_turned_are_told_before_they_are_read(folder, data, shape, size, fault):
    """Sizes are width and height; one map of a network's square input tells nothing."""
    ids = [image_id(i) for i in range(COUNT)]
    folder.write("image_sizes", [f"{name},{size[0]},{size[1]}" for name in ids])
    folder.write("localization", [f"{name},1,1,9,9" for name in ids])
    for i, name in enumerate(ids[1:]):
        folder.save(name, np.random.default_rng(i).random(shape))
    if not fault:
        assert folder.run(f"--size={SIDE}", "--threshold_step=.1")["images"] == COUNT
        return
    line = folder.complaint(f"--size={SIDE}", "--threshold_step=.1")
    assert "11 of 12 maps have the aspect of the image turned" in line and "transpose them" in line
    assert f"{shape[0]} high, {shape[1]} wide, the image {size[1]} high, {size[0]} wide" in line


def test_a_few_maps_of_another_aspect_are_a_warning(folder, command, capsys):
    ids = [image_id(i) for i in range(COUNT)]
    folder.write("image_sizes", [f"{name},48,36" for name in ids])
    folder.write("localization", [f"{name},1,1,9,9" for name in ids])
    for i, name in enumerate(ids):
        folder.save(name, np.random.default_rng(i).random({0: (8, 6), 1: (4, 20)}.get(i, (6, 8))))
    command()
    warnings = capsys.readouterr().err
    assert "1 of 12 maps have the aspect of the image turned" in warnings and image_id(0) in warnings
    assert "1 of 12 maps have another aspect than their image; they are stretched" in warnings


def test_maps_of_one_oblong_network_are_not_told_of(folder, command, capsys):
    ids = [image_id(i) for i in range(COUNT)]
    folder.write("image_sizes", [f"{name},{48 + 10 * (i % 3)},{36 + 20 * (i % 2)}" for i, name in enumerate(ids)])
    folder.write("localization", [f"{name},1,1,9,9" for name in ids])
    for i, name in enumerate(ids):
        folder.save(name, np.random.default_rng(i).random((9, 12)))
    command()
    assert "aspect" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda score_map: score_map.T, "the map fits the object better with x and y exchanged"),
        (lambda score_map: 1 - score_map, "the map is lower on the object than beside it"),
        (lambda score_map: score_map, ""),
    ],
)
def test_maps_that_are_turned_or_inverted_in_a_square_are_told_by_the_objects(folder, command, capsys, change, told):
    for i in range(COUNT):
        score_map = np.zeros((SIDE, SIDE))
        score_map[2:6, 8 : 11 + i % 3] = 1
        folder.save(image_id(i), change(score_map))
    scaled = ((8, 2, 11, 5) * np.array([3, 2, 3, 2])).tolist()
    folder.write("localization", [",".join([image_id(i), *map(str, scaled)]) for i in range(COUNT)])
    command()
    warnings = [line for line in capsys.readouterr().err.splitlines() if "in 12 of 12 images" in line]
    assert [told in line for line in warnings] == ([True] if told else [])


@pytest.mark.parametrize("factor", [255, -4])
def test_of_maps_in_another_range_the_cure_is_told(folder, factor):
    folder.save(image_id(0), factor * np.load(folder.map_of(image_id(0))))
    line = folder.complaint(f"--size={SIDE}", "--threshold_step=.1")
    assert "divide 8-bit levels by 255, of other scores minmax makes each map's own" in line


NAMES = ("owl", "bee, honey", "10", "2", "auk", "tit")


def by_name(predictions, names=NAMES):
    """Lines of predictions by name, as the csv module writes them."""
    quoted = [f'"{name}"' if "," in name else name for name in names]
    return "\n".join(",".join([f'"{image_id(i)}"', *(quoted[k] for k in row)]) for i, row in enumerate(predictions))


def test_predictions_by_name_are_those_by_number(data, folder, command, tmp_path):
    expected = command(f"--predictions={folder.predictions}")["metrics"]
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    folder.predictions.write_text(by_name(data[3]))
    named = command(f"--predictions={folder.predictions}", f"--class_names={tmp_path / 'names.txt'}")
    assert named["metrics"] == expected


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([f"{image_id(0)},bird,owl"], "line 1: 'bird' is the name of no class; they are owl, bee"),
        ([f"{image_id(0)},owl", f"{image_id(1)},1"], "line 1 has names of classes, but "),
        ([f"{image_id(0)},10,2", f"{image_id(1)},3,2"], "line 1 has names of classes, but "),
        ([f"{image_id(0)},owl,owl"], "line 1: a class stands there twice"),
        ([f"{image_id(0)},{'9' * 5000}"], "line 1: '9999"),
    ],
)
def test_predictions_that_match_no_names_are_one_line(folder, tmp_path, lines, told):
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    folder.predictions.write_text("\n".join(lines))
    line = folder.complaint(f"--predictions={folder.predictions}", f"--class_names={tmp_path / 'names.txt'}")
    assert told in line and len(line) < 600


def test_folders_that_are_called_by_numbers_leave_open_what_a_number_means(data, folder):
    maps, boxes, _, _ = data
    ids = [f"{(i % 2) * 8 + 2}/{i}.jpg" for i in range(COUNT)]
    for name, score_map in zip(ids, maps, strict=True):
        folder.save(name, score_map)
    folder.write("image_ids", ids)
    folder.write("class_labels", [f"{name},{i % 2}" for i, name in enumerate(ids)])
    folder.write("image_sizes", [f"{name},{SIDE},{SIDE}" for name in ids])
    folder.write("localization", [",".join([n, *map(str, box)]) for n, box in zip(ids, boxes, strict=True)])
    folder.predictions.write_text("\n".join(f"{name},{(i % 2) * 8 + 2}" for i, name in enumerate(ids)))
    options = (f"--predictions={folder.predictions}", f"--size={SIDE}", "--threshold_step=.1")
    assert "class 0 has the folder 2; say by --class_names" in folder.complaint(*options)
    (folder.metadata / "names").write_text("2\n10\n")
    assert folder.run(*options, f"--class_names={folder.metadata / 'names'}")["metrics"]["top1_cls"] == 100


def test_classes_that_count_from_1_are_told(data, folder, command, capsys):
    labels = data[2]
    folder.write("class_labels", [f"{image_id(i)},{i % 3}" for i in range(COUNT)])
    folder.predictions.write_text("\n".join(f"{image_id(i)},{i % 3 + 1}" for i in range(len(labels))))
    command(f"--predictions={folder.predictions}", "--num_classes=9")
    assert "classes are 1 to 3, but labels 0 to 2; both count from 0" in capsys.readouterr().err


def test_images_without_an_object_are_allowed_by_name(folder, command):
    path = folder.metadata / "localization.txt"
    path.write_text("\n".join(path.read_text().splitlines()[2:]))
    line = folder.complaint(f"--size={SIDE}")
    assert f"no box or mask of {image_id(0)}; unlocalized=allow if there is no object in it" in line
    options = ("--unlocalized=allow", f"--predictions={folder.predictions}", f"--per_image={folder.rows}")
    result = command(*options)
    assert result["images"] == COUNT and result["without_object"] == 2
    assert sum(part["images"] for part in result["by_size"].values()) == COUNT - 2
    with folder.rows.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iou"] == "" for row in rows] == [True, True, *[False] * (COUNT - 2)]
    assert "--unlocalized is 'maybe'" in folder_of_options(folder)


def folder_of_options(folder):
    folder.out.unlink()
    return folder.complaint("--unlocalized=maybe")
