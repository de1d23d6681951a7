from fcam_jax.runs.report.results import results_table


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
