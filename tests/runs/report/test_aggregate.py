"""Runs to rows: means and deviations worked out by hand, and the paper's figures for the right rows."""

import pytest
from made_runs import make_run

from fcam_jax.methods import METHODS
from fcam_jax.runs.report.aggregate import configurations, settings_text, sweeps, table_rows
from fcam_jax.runs.report.paper import PaperMethod, entries, method, published
from fcam_jax.runs.report.runs import read_run
from fcam_jax.runs.report.tables import markdown, paper_tables, results

WEIGHTS = {"seeds": 1.0, "crf": 1e-9, "size": 0.1}


@pytest.fixture
def read(tmp_path):
    """From the figures of CAM and F-CAM and settings to a run that was read."""
    made = []

    def run(cam, fcam, **values):
        made.append(make_run(tmp_path / str(len(made)), {"CAM": cam, "F-CAM": fcam}, names=[], **values))
        return read_run(made[-1])

    return run


def rows_of(runs):
    return [row for one in configurations(runs) for row in table_rows(one)]


def test_seeds_of_a_configuration_have_mean_and_sample_deviation(read):
    runs = [read({"MaxBoxAcc": 70.0}, {"MaxBoxAcc": cam}, seed=seed) for seed, cam in ((0, 88.0), (1, 90.0), (2, 95.0))]
    cam, fcam = rows_of(runs)
    assert (cam.name, fcam.name, fcam.seeds, fcam.images) == ("CAM", "F-CAM", (0, 1, 2), 500)
    # 88, 90, 95: mean 91, squared distances 9 + 1 + 16 = 26, over 2.
    figure = fcam.figures["MaxBoxAcc"]
    assert figure.mean == 91.0 and figure.deviation == pytest.approx(13**0.5)
    assert cam.figures["MaxBoxAcc"].deviation == 0
    assert figure.published == 90.3 and figure.difference == pytest.approx(0.7)
    assert cam.figures["MaxBoxAcc"].published == 71.5
    (text,) = [line for line in markdown(results([cam, fcam])).splitlines() if line.startswith("| F-CAM")]
    assert "| 91.0 ± 3.6 (3) | 90.3 | +0.7 |" in text


def test_a_way_with_a_map_of_its_own_has_no_cam(read):
    own, plain = configurations([read({}, {}, classifier={"method": name}) for name in ("bas", "has")])
    assert (own.cam, plain.cam) == ("", "cam")
    assert "BAS" in own.title and "cam" not in own.title


def test_one_seed_has_no_deviation(read):
    _, fcam = rows_of([read({"MaxBoxAcc": 70.0}, {"MaxBoxAcc": 88.0})])
    assert fcam.figures["MaxBoxAcc"].deviation is None
    assert "| 88.0 | 90.3 | -2.3 |" in markdown(results([fcam]))


def test_a_figure_that_one_run_lacks_is_that_of_the_others(read):
    runs = [read({}, {"PxAP": 60.0}, seed=0), read({}, {"MaxBoxAcc": 80.0}, seed=1), read({}, {"PxAP": 64.0}, seed=2)]
    _, fcam = rows_of(runs)
    assert fcam.figures["PxAP"].values == (60.0, 64.0) and fcam.figures["MaxBoxAcc"].values == (80.0,)


def test_runs_that_differ_in_more_than_the_seed_are_apart_and_say_in_what(read):
    runs = [
        read({}, {}, seed=0),
        read({}, {}, seed=0, fcam__seeds__background_fraction=0.5),
        read({}, {}, seed=1),
        read({}, {}, seed=0, model__encoder="vgg16"),
    ]
    first, second, third = configurations(runs)
    assert [run.seed for run in first.runs] == [0, 1]
    assert (first.number, second.number, third.number) == (1, 2, 3)
    assert settings_text(second.settings) == "seeds.background_fraction=0.5"
    assert third.settings == {}  # its encoder tells it from the others
    assert "fraction=0.3" in first.title and "vgg16" in third.title
    assert settings_text({str(i): i for i in range(6)}) == "0=0 1=1 2=2 3=3 and 2 more"


def test_a_sweep_is_of_one_setting_alone_and_by_rising_value(read):
    runs = [
        read({}, {}, fcam__seeds__background_fraction=0.5, seed=0),
        read({}, {}, fcam__seeds__background_fraction=0.1, seed=0),
        read({}, {}, fcam__seeds__background_fraction=0.1, seed=1),
        read({}, {}, fcam__seeds__background_fraction=0.7, model__encoder="vgg16"),
    ]
    (sweep,) = sweeps(configurations(runs))
    assert [len(one.runs) for one in sweep] == [2, 1]
    assert sweeps(configurations(runs[1:])) == []


@pytest.mark.parametrize(
    ("row", "cam", "weights", "expected"),
    [
        ("CAM", "cam", WEIGHTS, PaperMethod("CAM*")),
        ("CAM", "layercam", WEIGHTS, PaperMethod("LayerCAM")),
        ("F-CAM", "gradcam", WEIGHTS, PaperMethod("GradCAM", "F-CAM")),
        ("F-CAM", "gradcampp", WEIGHTS, PaperMethod("GradCAM++", "F-CAM")),
        ("F-CAM", "smooth_gradcam_plusplus", WEIGHTS, PaperMethod("Smooth-GradCAM++", "F-CAM")),
        ("F-CAM", "cam", WEIGHTS | {"crf": 0, "size": 0}, PaperMethod("CAM*", "SR")),
        ("F-CAM", "cam", WEIGHTS | {"size": 0.0}, PaperMethod("CAM*", "SR+CRF")),
        ("F-CAM", "cam", WEIGHTS | {"seeds": 0.0}, PaperMethod("CAM*", "other losses")),
        ("F-CAM", "cam", WEIGHTS | {"bounds": 0.1}, PaperMethod("CAM*", "other losses")),
        ("F-CAM", "cam", WEIGHTS | {"bounds": 0.0}, PaperMethod("CAM*", "F-CAM")),
        ("Center", "cam", WEIGHTS, PaperMethod("Center baseline")),
        ("HaS", "cam", WEIGHTS, PaperMethod("HaS")),
        ("F-CAM, no threshold", "cam", WEIGHTS, PaperMethod("F-CAM, no threshold")),
    ],
)
def test_rows_have_the_papers_names(row, cam, weights, expected):
    assert method(row, cam, weights) == expected


@pytest.mark.parametrize(
    ("row", "cam", "classifier", "expected"),
    [
        ("HaS", "cam", "has", PaperMethod("HaS")),
        ("F-CAM", "cam", "has", PaperMethod("HaS", "F-CAM")),
        ("HaS", "layercam", "has", PaperMethod("HaS, layercam")),
        ("FSL baseline", "layercam", "fsl", PaperMethod("FSL baseline")),
        ("Center", "cam", "acol", PaperMethod("Center baseline")),
        ("CAM", "cam", "cam", PaperMethod("CAM*")),
        ("CAM", "cam", "of another version", PaperMethod("CAM")),
    ],
)
def test_what_another_training_yields_is_not_taken_for_the_cam(row, cam, classifier, expected):
    assert method(row, cam, WEIGHTS, classifier) == expected


# With no figures that could be checked, or in a form that is not the published one.
UNPUBLISHED = {"bas", "eil", "icl_form", "spol", "frozen", "lost", "pretrained"}
TITLES = [(name, one.title) for name, one in METHODS.items() if name not in UNPUBLISHED]


@pytest.mark.parametrize(("name", "title"), TITLES)
def test_every_training_of_stage_1_has_published_figures(name, title):
    assert method(title, "cam", WEIGHTS, name) in {entry.method for entry in entries()}


def test_a_run_of_another_training_stands_beside_the_papers_row_of_it(tmp_path):
    runs = [
        read_run(make_run(tmp_path / "cam")),
        read_run(
            make_run(
                tmp_path / "has",
                {"HaS": {"MaxBoxAcc": 80.0}, "F-CAM": {"MaxBoxAcc": 85.0}},
                classifier={"method": "has", "has": {"grid": 4}},
            )
        ),
    ]
    rows = rows_of(runs)
    (one,) = [table for table in paper_tables(rows) if table.caption.startswith("Table 1")]
    texts = {cells[0].text: [cell.text for cell in cells[3:]] for cells in one.rows}
    assert texts["HaS"] == ["2", "78.1", "80.0", "+1.9"] and texts["CAM* + F-CAM"][0] == "1"
    shown = results(rows)
    assert shown.columns[:6] == ("method", "No.", "data set", "encoder", "stage 1", "CAM")
    lines = {tuple(cell.text for cell in cells[:5]): cells for cells in shown.rows}
    fcam_on_has = lines["F-CAM", "2", "CUB", "resnet50", "HaS"]
    assert [cell.text for cell in fcam_on_has][-3:] == ["85.0", "-", "-"]
    assert rows[-1].configuration.title == "2: CUB, resnet50, HaS, cam" and not rows[-1].configuration.settings


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("CUB", "vgg16", PaperMethod("LayerCAM"), "MaxBoxAcc"), 84.3),
        (("OpenImages", "resnet50", PaperMethod("CAM*", "F-CAM"), "PxAP"), 72.1),
        (("CUB", "inceptionv3", PaperMethod("XGradCAM", "F-CAM"), "top5_loc"), 75.3),
        (("CUB", "resnet50", PaperMethod("CAM*", "SR"), "MaxBoxAcc"), 82.2),
        (("CUB", "resnet50", PaperMethod("GradCAM++", "F-CAM"), "MaxBoxAccV2"), 82.7),
        (("CUB", "resnet50", PaperMethod("CAM*"), "top1_cls"), 65.1),
        (("CUB", "resnet50", PaperMethod("Center baseline"), "MaxBoxAcc"), 59.7),
        (("CUB", "small", PaperMethod("CAM*"), "MaxBoxAcc"), None),
        ((None, "resnet50", PaperMethod("CAM*"), "MaxBoxAcc"), None),
        (("CUB", "resnet50", PaperMethod("CAM*"), "PxAP"), None),
    ],
)
def test_published_figures_are_those_of_the_paper(key, value):
    assert published(*key) == value


def test_the_published_figures_are_whole():
    by_table = {table: sum(entry.table == table for entry in entries()) for table in ("3", "A.1", "A.3")}
    # Rows times encoders times data sets; Tables 1 and 2 have gaps.
    assert by_table["3"] == 4 * 3 * 2 and by_table["A.3"] == 12 * 3 * 2 and by_table["A.1"] == 21 * 3
    assert all(0 < entry.value <= 100 for entry in entries())


def test_only_the_test_split_of_a_named_data_set_is_compared(read):
    _, fcam = rows_of([read({}, {"MaxBoxAcc": 88.0}, split="val")])
    assert fcam.split == "val" and fcam.figures["MaxBoxAcc"].published is None
    _, fcam = rows_of([read({}, {"MaxBoxAcc": 88.0}, data__name=None)])
    assert fcam.figures["MaxBoxAcc"].published is None and "| folder |" in markdown(results([fcam]))


def test_a_table_of_the_paper_has_its_rows_with_ours_beside(read):
    rows = rows_of([read({"MaxBoxAcc": 70.0}, {"MaxBoxAcc": 88.0, "top1_loc": 60.0})])
    one, two, three = paper_tables(rows)
    assert [table.caption.split(",")[0] for table in (one, two, three)] == [
        "Table 1 of the paper",
        "Table 2 of the paper",
        "Table 3 of the paper",
    ]
    texts = {cells[0].text: [cell.text for cell in cells[3:]] for cells in one.rows}
    assert len(texts) == 21 and texts["HaS"] == ["-", "78.1", "-", "-"]
    assert texts["CAM*"] == ["1", "71.5", "70.0", "-1.5"] and texts["CAM* + F-CAM"] == ["1", "90.3", "88.0", "-2.3"]
    texts = {cells[0].text: [cell.text for cell in cells[3:]] for cells in three.rows}
    assert texts["CAM* + SR"][1:] == ["82.2", "-", "-"] and texts["CAM* + SR+CRF+ASC"][1:] == ["90.3", "88.0", "-2.3"]
    assert len({cells[0].text for cells in two.rows}) == len(two.rows)


def test_names_are_no_markup_in_markdown(read):
    rows = rows_of([read({}, {"PxAP": 1.0}, data__name="<b>|`x`\n[y](z)")])
    text = markdown(results(rows))
    assert "\\<b\\>\\|\\`x\\`\\\\n\\[y\\](z)" in text
    assert len({line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}) == 1
