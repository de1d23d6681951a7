"""Reports on runs of which something is damaged: the rest stands, and what is left out is one line."""

import json
import os
import random

import pytest
from made_runs import make_run, write_log

from fcam_jax.errors import InputError
from fcam_jax.runs.report import report
from fcam_jax.runs.report.runs import read_run

ODD = [None, True, -1, 2**40, 1e999, float("nan"), "\u00b2", "\x00", "x" * 5000, [], {}, [[]], {"a": {}}, [1e999], 0.5]
FUZZED = 60


@pytest.fixture
def reported(monkeypatch, tmp_path):
    """The report on folders without its plots, which take a second: the page's text, and what was left out."""
    monkeypatch.setattr(report, "_figures", lambda *of: {})

    def write(*folders):
        seen = {}
        real = report.write_page
        monkeypatch.setattr(report, "write_page", lambda path, given, of: seen.update(given) or real(path, given, of))
        report.write_report(folders, tmp_path / "out")
        monkeypatch.setattr(report, "write_page", real)
        assert all("\n" not in line and len(line) < 1000 for line in seen["leftOut"])
        return seen

    return write


def test_a_damaged_run_and_a_damaged_record_leave_the_rest(reported, tmp_path, caplog):
    runs = [make_run(tmp_path / name, {"CAM": {"PxAP": 1.0}, "F-CAM": {"PxAP": 2.0}}) for name in "abc"]
    (runs[0] / "config.json").write_text("[" * 10**6)
    (runs[1] / "evaluation" / "CAM.json").write_text("\x00" * 99)
    (runs[1] / "evaluation" / "\u00b2.json").mkdir()
    os.mkfifo(runs[1] / "evaluation" / "pipe.json")
    (runs[2] / "class_names.txt").write_bytes(b"\xff\xfe")
    (runs[2] / "\u00b2").mkdir()
    (runs[2] / "\u00b2" / "metrics.jsonl").symlink_to("/dev/zero")
    seen = reported(*runs)
    assert seen["about"].startswith("2 runs of 1 configuration")
    found = sorted(line.split(": ")[0].split(" is ")[0].removeprefix(f"{tmp_path}/") for line in seen["leftOut"])
    b, c = "b/evaluation", "c"
    names = ["a/config.json", f"{b}/CAM.json", f"{b}/pipe.json", f"{b}/\u00b2.json"]
    assert found == sorted([*names, f"{c}/class_names.txt", f"{c}/\u00b2/metrics.jsonl"])
    assert all(line in caplog.text for line in seen["leftOut"])


def test_a_log_is_read_around_what_is_damaged(tmp_path):
    run = make_run(tmp_path / "run")
    write_log(run, "fcam", [1.0, 2.0])
    path = run / "fcam" / "metrics.jsonl"
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([first, "\x00", "[" * 10_000, '{"step": 1e999, "kind": "val"}', *others, '{"st']))
    assert [epoch["MaxBoxAcc"] for epoch in read_run(run).history["fcam"].values()] == [1.0, 2.0]


def test_a_run_without_a_test_split_is_reported_by_the_split_that_it_has(reported, tmp_path):
    run = make_run(tmp_path / "run")
    os.renames(run / "evaluation", run / "val" / "evaluation")
    seen = reported(run)
    assert "run of 1 configuration, 4 examples" in seen["about"] and seen["leftOut"] == []


def spoil(value, draw):
    """The JSON value with something odd somewhere in it."""
    if isinstance(value, dict) and value and draw.random() < 0.8:
        key = draw.choice(sorted(value))
        changed = spoil(value[key], draw)
        return {name: one for name, one in value.items() if name != key} | (
            {} if draw.random() < 0.1 else {key: changed}
        )
    if isinstance(value, list) and value and draw.random() < 0.8:
        place = draw.randrange(len(value))
        return [*value[:place], spoil(value[place], draw), *value[place + 1 :]]
    return draw.choice(ODD)


@pytest.mark.slow
def test_no_odd_value_ends_a_report_otherwise_than_in_a_line(reported, tmp_path):
    make_run(tmp_path / "good", names=["a.jpg"])
    run = make_run(tmp_path / "run", names=["a.jpg", "b.jpg"])
    files = [run / "config.json", run / "evaluation" / "CAM.json", run / "evaluation" / "examples" / "CAM.jsonl"]
    for seed in range(FUZZED):
        draw = random.Random(seed)
        path = draw.choice(files)
        whole = path.read_text()
        lines = [whole] if path.suffix == ".json" else whole.splitlines()
        lines[0] = json.dumps(spoil(json.loads(lines[0]), draw))
        path.write_text("\n".join(lines))
        try:
            assert "configuration" in reported(tmp_path / "good", run)["about"]
        except InputError as error:
            raise AssertionError(f"seed {seed} ends the report: {error}") from error
        path.write_text(whole)
