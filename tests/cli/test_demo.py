"""The page to try a network on, without a browser: what its elements call, and mistakes in one line."""

import base64
import functools
import json
import pathlib
import signal
import socket
import subprocess
import sys

import cv2
import numpy as np
import PIL.Image
import pytest
from browsing import browsing, resize
from flax import nnx
from program import ROOT
from staged import CLASSES, SIDE, untrained_run

from fcam_jax.cli import command
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import export_weights, save_weights
from fcam_jax.models.resnet import Small
from fcam_jax.runs.prediction.network import PREDICTED, Predictor
from fcam_jax.runs.prediction.public import load
from fcam_jax.runs.trained import load_trained

gradio = pytest.importorskip("gradio", reason="gradio is not installed (pip install 'fcam-jax[demo]')")
from fcam_jax.runs.prediction import demo  # noqa: E402

pytestmark = pytest.mark.slow  # all but a few need the run

LAYERS = list(demo.LAYERS)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with one image that its evaluation has kept."""
    path = untrained_run(tmp_path_factory.mktemp("run") / "run")
    kept = path / "evaluation" / "examples"
    kept.mkdir(parents=True)
    photograph(kept / "kept.jpg", (SIDE, SIDE))
    return path


@pytest.fixture(scope="module", autouse=True)
def load_once():
    """A checkpoint is read once for all that is loaded of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fcam_jax.runs.prediction.network.load_trained", functools.cache(load_trained))
        yield


@pytest.fixture(scope="module")
def program(run):
    """What a program has of the run: the classifier and F-CAM."""
    return load(run / "classifier", batch_size=1), load(run, batch_size=1)


@pytest.fixture(scope="module")
def page(run):
    return demo.Page(demo.networks_of(run, None), demo.examples_of(run))


def photograph(path, size, seed=0, mode="RGB", **options):
    """A coarse photograph of a height and width, in a file."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    PIL.Image.fromarray(coarse).resize(size[::-1], PIL.Image.Resampling.BICUBIC).convert(mode).save(path, **options)
    return path


def looked(page, path, label=PREDICTED, cam="cam", shares=(0.4, 0.5)):
    """What the page says of a photograph: predictions, classes, and what is shown of each network."""
    _, there, at, _ = page.add([path], [])
    found, classes, _, _, *shown = page.look(there, at, label, cam, LAYERS, *shares)
    return found, classes, shown


def test_maps_are_those_of_a_program_and_a_threshold_runs_no_network(page, program, tmp_path, monkeypatch):
    path = photograph(tmp_path / "a.png", (40, 60))
    found, classes, (cam, fcam, _, text) = looked(page, path)
    for one, expected in zip(found, (network(path) for network in program), strict=True):
        np.testing.assert_array_equal(one.maps[0], expected.maps[0])
        assert one.threshold == expected.threshold and one.labels == expected.labels
    assert cam["label"] == f"CAM of {found[0].classes[0]}" and fcam["label"] == "F-CAM (the same for all classes)"
    assert max(classes, key=classes.get) == found[0].classes[0]
    assert text.endswith("threshold 0.500 (own decision)")  # the slider was not moved

    expected = program[0](path, threshold=0.9)
    monkeypatch.setattr(Predictor, "__call__", lambda *given: pytest.fail("the network is run"))
    _, _, _, text, _ = page.redraw(found, LAYERS, 0.9, 0.5)
    box = ", ".join(map(str, expected.boxes[0][0].tolist()))
    mask = f"mask {expected.masks[0].mean():.1%} of the image"
    assert text.splitlines()[1:] == [f"box {box} (x0, y0, x1, y1)", mask, "threshold 0.900 (given)"]
    assert 0 < expected.masks[0].sum() < found[0].masks[0].sum()


def test_class_and_cam_are_chosen_and_their_threshold_begins_at_its_own(page, program, tmp_path):
    path = photograph(tmp_path / "a.png", (40, 60))
    found, _, (cam, *_) = looked(page, path, 5, "layercam")
    assert cam["label"] == "LayerCAM of class 5"
    np.testing.assert_array_equal(found[0].maps[0], program[0](path, label=5, cam="layercam").maps[0])
    names = dict(demo.cams_of(page.networks[0]))
    assert next(iter(names.items())) == ("CAM", "cam") and names["LayerCAM"] == "layercam"
    assert any(title.startswith("ScoreCAM (") and title.endswith(" passes)") for title in names)
    assert "legrad" not in names.values()  # of transformers
    assert page.threshold("layercam") == 0.4 and page.threshold("cam") == page.first.threshold.value
    pictures = [demo.picture(found[0], layers) for layers in ([], ["map"], ["mask"], ["box"], LAYERS)]
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    assert all(picture.shape == (427, 640, 3) for picture in pictures)


def test_files_are_those_of_predict_in_pixels_of_the_photograph(page, run, tmp_path):
    path = photograph(tmp_path / "a b.png", (40, 60))
    found, *_ = looked(page, path)
    files = [pathlib.Path(file) for file in demo.saved([one.cut(0.6) for one in found], path.name, tmp_path)]
    names = [f"a b.png.{title}{end}" for title in ("cam", "F-CAM") for end in (".npy", ".mask.png", ".json")]
    assert [file.name for file in files] == names
    for (score_map, mask, record), source in zip((files[:3], files[3:]), (run / "classifier", run), strict=True):
        out = tmp_path / source.name
        words = [f"--checkpoint={source}", f"--images={path}", f"--out={out}", "--threshold=.6", "--batch_size=1"]
        assert command.main(["predict", *words]) == 0
        (expected,) = map(json.loads, (out / "predictions.jsonl").read_text().splitlines())
        np.testing.assert_array_equal(np.load(score_map), np.load(out / expected["map"]))
        inside = cv2.imread(str(out / expected["levels"]), cv2.IMREAD_GRAYSCALE) > expected["level"]
        np.testing.assert_array_equal(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED), np.where(inside, 255, 0))
        written = json.loads(record.read_text())
        assert (written.pop("map"), written.pop("mask")) == (score_map.name, mask.name) and written.pop("title")
        assert written == {key: expected[key] for key in written} and written["box"] == expected["boxes"][0]


def test_photographs_of_all_kinds_are_upright_and_what_is_none_is_told(page, tmp_path, monkeypatch):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    good = [
        photograph(tmp_path / "gray.png", (40, 60), mode="L"),
        photograph(tmp_path / "clear.png", (40, 60), mode="RGBA"),
        photograph(tmp_path / "turned.jpg", (40, 60), exif=exif),
    ]
    broken = tmp_path / "cut.jpg"
    broken.write_bytes(good[-1].read_bytes()[:300])
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 40 * 60)
    huge = photograph(tmp_path / "huge.png", (41, 60))
    told = []
    monkeypatch.setattr(demo.gr, "Warning", told.append)
    _, there, at, _ = page.add([*good[:1], broken, *good[1:], huge], [(good[0], np.zeros((85, 128, 3), np.uint8))])
    assert at == 0 and [path for path, _ in there] == [*good, good[0]]
    assert [thumb.shape for _, thumb in there[:3]] == [(85, 128, 3), (85, 128, 3), (128, 85, 3)]
    assert len(told) == 2 and all("\n" not in line and str(tmp_path) not in line for line in told)
    assert told[0].startswith("cut.jpg: ") and told[1] == "huge.png: an image must have 1 to 2400 pixels"
    found, *_ = looked(page, good[2])
    assert found[0].maps[0].shape == (60, 40)
    good[2].unlink()
    with pytest.raises(gradio.Error, match=r"turned\.jpg") as error:
        page.look(there, 2, PREDICTED, "cam", LAYERS, 0.4, 0.5)
    assert not error.value.print_exception and str(tmp_path) not in error.value.message
    assert page.look([], 0, PREDICTED, "cam", LAYERS, 0.4, 0.5) == page.redraw((), LAYERS, 0.4, 0.5) == gradio.skip()


def test_a_classifier_alone_has_one_map(page, run, tmp_path):
    assert [one.network.title for one in page.networks] == ["cam", "F-CAM"]
    assert [path.name for path in page.examples] == ["kept.jpg"]
    (stage,) = demo.networks_of(run / "classifier", "gradcam")
    assert stage.network.title == "gradcam"
    body = Small(final_stride=8, rngs=nnx.Rngs(3))
    weights = tmp_path / "small.safetensors"
    save_weights(export_weights(Classifier(body, WGAP(body.channels[-1], CLASSES, rngs=nnx.Rngs(4)))), weights)
    (imported,) = demo.networks_of(weights, None, encoder="small", size=SIDE, final_stride=8)
    found, *_ = looked(demo.Page([imported]), photograph(tmp_path / "a.png", (40, 60)), shares=(0.4,))
    assert len(found) == 1 and found[0].threshold.source == "default" and demo.examples_of(weights) == []


def test_a_mistake_costs_one_line(run, tmp_path, monkeypatch):
    (tmp_path / "w.safetensors").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = f"--port={taken.getsockname()[1]}"
        line = mistake([f"--checkpoint={run}", port])
        assert line == f"error: --host=127.0.0.1 {port}: no page can be there (Address already in use); give another"
    for words, told in (
        ([f"--checkpoint={tmp_path / 'none'}", port], f"{tmp_path / 'none'}: no such folder"),
        ([f"--checkpoint={tmp_path / 'w.safetensors'}"], "is weights alone: say of which network, as in --encoder="),
        (["--checkpoint=timm:resnet50"], "is weights alone: say of which network, as in --encoder="),
        ([f"--checkpoint={run}", port, "--cam=hindcam"], "unknown CAM 'hindcam'; known: "),
        ([f"--checkpoint={run}", port, "--size=64"], "size: a run knows its own"),
        ([f"--checkpoint={run}", "--port=70000"], "--port=70000 must lie between 1 and 65535"),
        ([f"--checkpoint={run}", port, "--host=no host"], f"--host=no host {port}: no page can be there ("),
    ):
        assert told in mistake(words)
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "fcam_jax.runs.prediction.demo")
    monkeypatch.delattr("fcam_jax.runs.prediction.demo")
    assert mistake([f"--checkpoint={run}"]) == "error: fcam demo needs gradio: pip install 'fcam-jax[demo]'"


def mistake(words):
    with pytest.raises(SystemExit) as ended:
        command.main(["demo", *words])
    line = ended.value.code
    assert line.startswith("error: ") and "\n" not in line
    return line


def test_gradio_is_imported_by_the_page_alone():
    sources = {path: path.read_text() for path in (ROOT / "fcam_jax").rglob("*.py")}
    assert [path.name for path, text in sources.items() if "import gradio" in text] == ["demo.py"]
    callers = [path for path, text in sources.items() if "prediction import demo" in text or "prediction.demo" in text]
    assert callers == [ROOT / "fcam_jax" / "cli" / "demo.py"]
    assert (
        "\n        from fcam_jax.runs.prediction import demo\n" in sources[callers[0]]
    )  # in the function that runs it


@pytest.fixture(scope="module")
def address(run):
    """The page of the command in a process of its own, which Ctrl-C ends without a word of Python's."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "fcam_jax", "demo", f"--checkpoint={run}", f"--port={port}"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is deaf to it
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
        signal.signal(signal.SIGINT, before)
        try:
            line = serving.stdout.readline()
            yield line.removeprefix(f"cam and F-CAM of {CLASSES} classes: ").removesuffix(" (Ctrl-C ends it)\n")
        finally:
            serving.send_signal(signal.SIGINT)
            said, errors = serving.communicate(timeout=60)
    assert (serving.returncode, said) == (0, "ended\n") and "Traceback" not in errors, errors


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsing(tmp_path_factory.mktemp("browser"), "performance") as opened:
        yield opened


DROP = """
const [target, ...files] = arguments, given = new DataTransfer();
for (const [name, data] of files)
    given.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type: "image/png" }));
for (const kind of ["dragenter", "dragover", "drop"])
    target.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: given }));
"""


@pytest.mark.parametrize(
    ("width", "height", "dark"), [(1400, 900, False), pytest.param(390, 844, True, marks=pytest.mark.long)]
)
def test_the_page_in_a_browser(browser, address, run, program, tmp_path, width, height, dark):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    def all_of(selector):
        return browser.find_elements(By.CSS_SELECTOR, selector)

    def wait(what):
        return WebDriverWait(browser, 60, 0.1).until(lambda _: what())

    def texts():
        return browser.execute_script("return [...document.querySelectorAll('textarea')].map((one) => one.value)")

    def pictures():
        """Their addresses, once both have arrived."""
        script = "return [...document.querySelectorAll('.picture img')].map((one) => one.naturalWidth && one.src)"
        return wait(lambda: all(there := browser.execute_script(script)) and len(there) == 2 and there)

    def choose(label, name):
        field = browser.find_element(By.CSS_SELECTOR, f"input[aria-label='{label}']")
        field.click()
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(name, Keys.ENTER)

    def expected(path, **given):
        one = program[0](path, **given)
        box, mask = ", ".join(map(str, one.boxes[0][0].tolist())), one.masks[0].mean()
        return f"box {box} (x0, y0, x1, y1)\nmask {mask:.1%} of the image\nthreshold {one.threshold.value:.3f}"

    resize(browser, width, height, dark)
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(address)
    first = pictures()
    wait(lambda: expected(run / "evaluation" / "examples" / "kept.jpg") in texts()[0])

    path = photograph(tmp_path / "a.png", (40, 60))
    files = [
        [path.name, base64.b64encode(path.read_bytes()).decode()],
        ["cut.png", base64.b64encode(b"\x89PNG").decode()],
    ]
    browser.execute_script(DROP, all_of("input[type=file]")[0].find_element(By.XPATH, "./.."), *files)
    wait(lambda: "cut.png: " in browser.find_element(By.TAG_NAME, "body").text)
    wait(lambda: len(all_of(".photographs img")) == 2)
    wait(lambda: expected(path) in texts()[0])
    wait(lambda: not set(pictures()) & set(first))
    (cam, fcam), written = pictures(), texts()
    assert written[1].endswith("(own decision)")

    all_of("input[type=range]")[0].send_keys(*[Keys.PAGE_UP] * 3)
    share = float(all_of("input[type=range]")[0].get_attribute("value"))
    wait(lambda: expected(path, threshold=share) in texts()[0])
    wait(lambda: pictures()[0] != cam)
    assert share > 0.4 and [pictures()[1], texts()[1]] == [fcam, written[1]]

    choose("Class", "class 5")
    wait(lambda: "CAM of class 5" in browser.find_element(By.TAG_NAME, "body").text)
    choose("CAM of the classifier", "LayerCAM")
    wait(lambda: "LayerCAM of class 5" in browser.find_element(By.TAG_NAME, "body").text)
    wait(lambda: expected(path, label=5, cam="layercam") in texts()[0])

    next(one for one in all_of("button") if one.text == "Save map, mask and box").click()
    wait(lambda: len(all_of("a[download]")) == 6)
    for link in all_of("a[download]"):
        link.click()
    wait(lambda: len([file for file in tmp_path.glob("a.png.*") if file.suffix != ".crdownload"]) == 6)
    by_program = program[0](path, label=5, cam="layercam")
    np.testing.assert_allclose(np.load(tmp_path / "a.png.layercam.npy"), by_program.maps[0], atol=1e-3)
    record = json.loads((tmp_path / "a.png.layercam.json").read_text())
    assert record["boxes"] == by_program.boxes[0].tolist() and record["label"] == 5
    mask = cv2.imread(str(tmp_path / "a.png.layercam.mask.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(mask > 0, by_program.masks[0])

    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (max(int(part) for part in colour[4:-1].split(",")) < 60) is dark
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert len(asked) > 20 and all(url.startswith((address, "data:", "blob:")) for url in asked), asked
