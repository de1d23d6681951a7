"""Figures with their thresholds and intervals, and figures of parts, from records to tables; the table of a run."""

import dataclasses

from made_runs import evaluation, ids, make_run

from fcam_jax.runs.report.aggregate import configurations
from fcam_jax.runs.report.record import save_record
from fcam_jax.runs.report.runs import read_run
from fcam_jax.runs.report.tables import details, results_table

FIGURES = {"MaxBoxAcc": 61.25, "MaxBoxAccV2": 52.5, "BoxAcc_at_val": 58.5, "threshold_at_val": 0.32, "top1_cls": 70.0}


def texts(table):
    return [dict(zip(table.columns, (cell.text for cell in row), strict=True)) for row in table.rows]


def run_with_details(folder):
    """A run whose CAM has intervals and parts."""
    make_run(folder)
    found = dataclasses.replace(
        evaluation(ids(4), FIGURES),
        intervals={"MaxBoxAcc": (58.0, 64.5), "top1_cls": (66.0, 74.0)},
        by_size={
            "below 10 %": {"images": 3, "BoxAcc_at_best": 20.0, "PxAP": 11.5},
            "60 % and more": {"images": 9, "BoxAcc_at_best": 90.0},
        },
        by_class={2: {"images": 7, "BoxAcc_at_best": 50.0}, 10: {"images": 5, "BoxAcc_at_best": 80.0}},
    )
    for row in ("Center", "CAM"):
        save_record(folder, row, found, images=12, split="val")
    return read_run(folder)


def test_every_figure_says_at_which_threshold_and_within_which_interval(tmp_path):
    every, *_ = details(configurations([run_with_details(tmp_path / "run")]))
    rows = {(row["method"], row["figure"]): row for row in texts(every)}
    best = rows["CAM", "MaxBoxAcc"]
    assert (best["percent"], best["95 % from"], best["to"]) == ("61.2", "58.0", "64.5")
    assert (best["at threshold"], best["split"]) == ("0.4, best on val", "val")
    assert rows["CAM", "BoxAcc_at_val"]["at threshold"] == "0.32, best on val"
    assert rows["CAM", "BoxAcc_at_val"]["to"] == "-"
    assert rows["CAM", "top1_cls"]["at threshold"] == "none"
    assert rows["CAM", "MaxBoxAccV2"]["at threshold"] == "3, each best on val"
    assert not any("threshold" in figure for _, figure in rows)


def test_parts_keep_their_order_and_classes_are_those_of_the_compared_methods(tmp_path):
    _, sizes, classes = details(configurations([run_with_details(tmp_path / "run")]))
    found = texts(sizes)
    assert [row["the object's share of the image"] for row in found] == ["below 10 %", "60 % and more"] * 2
    assert [row["PxAP"] for row in found] == ["11.5", "-"] * 2
    assert {row["method"] for row in found} == {"Center", "CAM"}
    assert [(row["method"], row["class"], row["images"]) for row in texts(classes)] == [
        ("CAM", "class 2", "7"),
        ("CAM", "class 10", "5"),
    ]


def test_without_parts_there_is_one_table(tmp_path):
    (every,) = details(configurations([read_run(make_run(tmp_path / "run"))]))
    assert {row["95 % from"] for row in texts(every)} == {"-"}


def test_rows_columns_and_gain():
    table = results_table(
        {
            "CAM": {"MaxBoxAcc": 50.0, "MaxBoxAccV2": 40.04, "MaxBoxAcc_threshold": 0.2, "top1_loc": 7.25},
            "F-CAM": {"MaxBoxAcc": 71.26, "MaxBoxAccV2": 40.0, "MaxBoxAcc_threshold": 0.5, "top1_loc": 7.0},
        }
    )
    assert table.splitlines() == [
        "test, percent  MaxBoxAcc  MaxBoxAccV2  top1_loc",
        "CAM                 50.0         40.0       7.2",
        "F-CAM               71.3         40.0       7.0",
        "gain               +21.3         +0.0      -0.2",
    ]


def test_what_a_method_lacks_is_a_dash():
    rows = results_table({"CAM": {"MaxBoxAcc": 100.0}, "F-CAM": {"PxAP": 3.0}}).splitlines()
    assert [row.split() for row in rows] == [
        ["test,", "percent", "MaxBoxAcc", "PxAP"],
        ["CAM", "100.0", "-"],
        ["F-CAM", "-", "3.0"],
        ["gain", "-", "-"],
    ]


def test_gain_is_that_of_the_last_over_the_first():
    rows = results_table({"a": {"PxAP": 1.0}, "b": {"PxAP": 50.0}, "c": {"PxAP": 4.0}}).splitlines()
    assert rows[-1].split() == ["gain", "+3.0"]


def test_one_method_has_no_gain():
    assert results_table({"CAM": {"PxAP": 1.0}}).splitlines() == ["test, percent  PxAP", "CAM             1.0"]


def test_the_gain_is_between_the_methods_that_are_named():
    methods = {"Center": {"PxAP": 1.0}, "CAM": {"PxAP": 50.0}, "F-CAM": {"PxAP": 60.0}, "other": {"PxAP": 4.0}}
    lines = results_table(methods, "CAM", "F-CAM", "val").splitlines()
    assert lines[0].split() == ["val,", "percent", "PxAP"] and lines[-1].split() == ["gain", "+10.0"]


def test_nothing_gains_over_itself():
    methods = {"F-CAM, no threshold": {"PxAP": 50.0}, "F-CAM": {"PxAP": 60.0}}
    assert "gain" not in results_table(methods, "F-CAM", "F-CAM")
