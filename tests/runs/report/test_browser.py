"""The page in a real browser: names stay text, sliders cut as the program does, tables sort, filters filter, fast."""

import time

import cv2
import numpy as np
import pytest
from browsing import browsing, resize
from made_runs import ids, make_run

from fcam_jax.evaluation.boxes import box_iou, largest_box
from fcam_jax.evaluation.component_tree import contours
from fcam_jax.runs.class_names import save_names
from fcam_jax.runs.report.page import PixelBlocks, packed, run_facts, write_page
from fcam_jax.runs.report.record import localized
from fcam_jax.runs.report.report import write_report
from fcam_jax.runs.report.runs import Finding, Pixels, StoredExample, read_examples, read_pixels
from fcam_jax.types import Annotation

pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip install selenium)")
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

HOSTILE = "<script>alert(1)</script>.jpg"
CLASSES = ("<b>auk</b>", "gull")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser without a window."""
    with browsing(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of 41 images, one of them with a name that is a program."""
    rows = {"CAM": {"MaxBoxAcc": 50.0, "PxAP": 60.0}, "F-CAM": {"MaxBoxAcc": 75.0}, "Center": {"MaxBoxAcc": 9.0}}
    folder = make_run(tmp_path_factory.mktemp("runs") / "run", rows, names=[HOSTILE, *ids(40)])
    save_names(folder, CLASSES)
    return folder


@pytest.fixture(scope="module")
def report(run):
    """The run's report."""
    return write_report([run], run.parent / "report").as_uri()


def show(browser, address, width=1200, dark=False):
    resize(browser, width, 800, dark)
    browser.get_log("browser")
    browser.get(address)
    browser.execute_script("document.getElementById('examples').scrollIntoView()")
    WebDriverWait(browser, 20).until(lambda page: page.find_elements(By.CLASS_NAME, "card"))
    return browser


@pytest.fixture
def page(browser, report):
    """The report, freshly opened; nothing may be complained of while it is used."""
    yield show(browser, report)
    assert browser.get_log("browser") == []


def texts(page, selector):
    """Of all elements at one instant: those of a list come and go."""
    script = "return [...document.querySelectorAll(arguments[0])].map((element) => element.innerText)"
    return page.execute_script(script, selector)


def count(page):
    return page.find_element(By.ID, "count").text


def set_value(page, name, value):
    field = page.find_element(By.NAME, name)
    field.clear()
    field.send_keys(value)


@pytest.mark.slow
def test_names_are_shown_as_text_and_nothing_is_fetched(page):
    assert texts(page, ".card .name")[0] == HOSTILE
    page.find_element(By.CLASS_NAME, "card").click()
    assert page.find_element(By.ID, "viewer-name").text == HOSTILE
    assert len(page.find_elements(By.TAG_NAME, "script")) == 2 + 3  # data and program, three blocks of pixels
    fetched = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in fetched if not name.startswith("data:")] == []


def hard_maps():
    """Maps of few pixels on which boxes are easily wrong: noise, plateaus, rings with holes, ties, single pixels."""
    rng = np.random.default_rng(0)
    maps = []
    for height, width in ((1, 1), (1, 7), (6, 1), (2, 2), (12, 17), (19, 11), (23, 23)):
        y, x = np.mgrid[:height, :width]
        maps += [
            rng.integers(0, 256, (height, width)),
            rng.integers(0, 3, (height, width)) * 90,
            (rng.random((height, width)) < 0.4) * 255,
            127 + 127 * np.sin(np.hypot(y - height / 2, x - width / 2)),
            np.full((height, width), 31),
        ]
    return [levels.astype(np.uint8) for levels in maps]


def test_boxes_are_those_of_the_program_at_every_level(page):
    script = """
        const [levels, width, height] = arguments, map = Uint8Array.from(levels);
        return Array.from({ length: 256 }, (_, level) => largestBox(map, width, height, level));
    """
    for levels in hard_maps():
        found = page.execute_script(script, levels.ravel().tolist(), levels.shape[1], levels.shape[0])
        np.testing.assert_array_equal(found, contours(levels).largest)


def test_maps_and_overlaps_are_those_of_the_program(page):
    script = """
        const [packed, mask, width, height, boxes, threshold, done] = arguments;
        unpackLevels(packed, width, height).then((levels) => {
            const truth = Uint8Array.from(mask), size = [height, width];
            done([Array.from(levels), localize(levels, { size, boxes }, truth, threshold),
                localize(levels, { size, boxes: null }, truth, threshold)]);
        });
    """
    rng = np.random.default_rng(1)
    for levels in hard_maps():
        height, width = levels.shape
        mask = rng.choice([0, 128, 255], (height, width)).astype(np.uint8)
        corners = np.sort(rng.integers(0, (width, height), (2, 2, 2)), axis=1).reshape(2, 4)
        threshold = int(rng.integers(0, 1000)) * 0.001
        truth = Annotation("", 0, corners, mask == 255, mask == 128)
        boxed = localized(levels, truth, threshold)
        masked = localized(levels, Annotation("", 0, None, mask == 255, mask == 128), threshold)
        arguments = packed(levels), mask.ravel().tolist(), width, height, corners.tolist(), threshold
        there, by_box, by_mask = page.execute_async_script(script, *arguments)
        np.testing.assert_array_equal(there, levels.ravel())
        np.testing.assert_array_equal(by_box["box"], boxed.box)
        assert by_box["iou"] == pytest.approx(boxed.iou) and by_mask["iou"] == pytest.approx(masked.iou)
        assert (levels > by_box["level"]).tolist() == boxed.mask.tolist()


def test_the_slider_shows_box_overlap_and_mask_of_every_threshold(page, run):
    examples, _ = read_examples(run, ["CAM"])
    page.find_elements(By.CLASS_NAME, "card")[3].click()
    slider = WebDriverWait(page, 10).until(
        lambda page: page.find_element(By.CSS_SELECTOR, "input[aria-label='Threshold of CAM']")
    )
    shown = page.find_element(By.CSS_SELECTOR, "output[data-method='CAM']")
    picture = "return document.querySelectorAll('.panel canvas')[2].toDataURL()"
    levels = read_pixels(examples[3]).levels[0]
    assert "threshold 0.400" in shown.text

    def expected(threshold):
        box = largest_box(levels / np.float64(255) + 1e-9, threshold)
        iou = float(box_iou(box[None], examples[3].boxes).max())
        return f"threshold {threshold:.3f} · box {', '.join(map(str, box))} · IoU {iou:.2f}"

    pictures = set()
    for _ in range(3):
        slider.send_keys(Keys.PAGE_UP)
        assert shown.text.startswith(expected(int(slider.get_attribute("value")) * 0.001))
        assert shown.text.replace(" · ", ", ") == slider.get_attribute("aria-valuetext")
        pictures.add(page.execute_script(picture))
    assert len(pictures) == 3
    slider.send_keys(Keys.HOME)
    assert shown.text.startswith(expected(0.0))
    page.find_elements(By.CSS_SELECTOR, ".slider button")[1].click()
    assert shown.text.startswith(expected(0.4))
    before = page.execute_script(picture)
    page.find_element(By.NAME, "boxes").click()
    assert page.execute_script(picture) != before


def test_the_viewer_goes_by_keyboard_and_gives_the_focus_back(page):
    card = page.find_element(By.CLASS_NAME, "card")
    card.send_keys(Keys.ENTER)
    assert page.find_element(By.ID, "viewer").get_attribute("open")
    assert not page.find_element(By.ID, "previous").is_enabled()
    page.find_element(By.ID, "next").send_keys(Keys.ENTER)
    assert page.find_element(By.ID, "viewer-name").text == ids(1)[0]
    assert "gull · " in page.find_element(By.ID, "viewer-facts").text
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not page.find_element(By.ID, "viewer").get_attribute("open")
    assert page.switch_to.active_element == card


def test_examples_are_chosen_by_class_success_overlap_and_name(page, run):
    examples, _ = read_examples(run, ["CAM", "F-CAM"], CLASSES)
    cam, fcam = ([one.findings[i].iou for one in examples] for i in (0, 1))
    assert count(page) == "41 of 41 examples"
    select = {name: Select(page.find_element(By.NAME, name)) for name in ("class", "success", "method", "order")}
    classes = [option.text for option in select["class"].options]
    assert classes == ["all (2)", "<b>auk</b> (21)", "gull (20)"]
    select["success"].select_by_value("found")
    assert select["method"].first_selected_option.text == "F-CAM"
    assert count(page) == f"{sum(iou >= 0.5 for iou in fcam)} of 41 examples"
    select["method"].select_by_visible_text("CAM")
    assert count(page) == f"{sum(iou >= 0.5 for iou in cam)} of 41 examples"
    select["class"].select_by_index(2)
    wanted = [iou for one, iou in zip(examples, cam, strict=True) if one.class_name == "gull"]
    assert count(page) == f"{sum(iou >= 0.5 for iou in wanted)} of 41 examples"
    page.find_element(By.ID, "reset").click()
    assert count(page) == "41 of 41 examples"
    set_value(page, "low", "0.3")
    set_value(page, "high", "0.6")
    assert count(page) == f"{sum(0.3 <= iou <= 0.6 for iou in fcam)} of 41 examples"
    page.find_element(By.ID, "reset").click()
    set_value(page, "text", "/7.JPG")
    assert count(page) == "1 of 41 examples" and texts(page, ".card .name") == ["001.Bird_1/7.jpg"]
    page.find_element(By.ID, "reset").click()
    select["order"].select_by_value("rising")
    assert texts(page, ".card .name")[0] == examples[int(np.argmin(fcam))].image_id
    assert f"IoU {min(fcam):.2f}, missed" in texts(page, ".card")[0]


def test_tables_sort_by_every_column(page):
    table = page.find_element(By.TAG_NAME, "table")
    headings = {head.text.split(" ↕")[0]: i for i, head in enumerate(table.find_elements(By.TAG_NAME, "th"))}
    heads = table.find_elements(By.CSS_SELECTOR, "th button")

    def column(name):
        return [
            row.find_elements(By.TAG_NAME, "td")[headings[name]].text
            for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")
        ]

    assert column("method") == ["Center", "CAM", "F-CAM"]
    heads[headings["MaxBoxAcc"]].click()
    assert column("MaxBoxAcc") == ["9.0", "50.0", "75.0"]
    heads[headings["MaxBoxAcc"]].click()
    assert column("MaxBoxAcc") == ["75.0", "50.0", "9.0"]
    sorts = [head.get_attribute("aria-sort") for head in table.find_elements(By.TAG_NAME, "th")]
    assert sorts.count("none") == len(sorts) - 1 and sorts[headings["MaxBoxAcc"]] == "descending"
    heads[headings["PxAP"]].click()
    assert column("PxAP") == ["60.0", "-", "-"]  # what is missing comes last
    heads[headings["method"]].send_keys(Keys.ENTER)
    assert column("method") == ["CAM", "Center", "F-CAM"]


@pytest.mark.parametrize(("width", "dark"), [(360, False), (1400, True)])
def test_the_page_fits_its_window_and_follows_the_theme(browser, report, width, dark):
    show(browser, report, width, dark)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (max(int(part) for part in colour[4:-1].split(",")) < 60) is dark
    caption = browser.find_element(By.CSS_SELECTOR, ".table > p").rect  # none of it scrolls away with the table
    assert caption["x"] >= 0 and caption["x"] + caption["width"] <= width and caption["height"] > 15
    boxes = [card.rect for card in browser.find_elements(By.CSS_SELECTOR, "#cards li")]
    assert len({(box["x"], box["y"]) for box in boxes}) == len(boxes) > 1
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    browser.find_element(By.CLASS_NAME, "card").click()
    box = browser.find_element(By.ID, "viewer").rect
    assert box["x"] >= 0 and box["x"] + box["width"] <= width


@pytest.mark.slow
def test_a_window_of_1400_pixels_shows_all_figures(browser, tmp_path):
    figures = dict.fromkeys(("MaxBoxAcc", "MaxBoxAccV2", "PxAP", "top1_loc", "top5_loc", "top1_cls"), 60.0)
    rows = {"CAM": figures, "F-CAM": figures, "F-CAM, no threshold": figures}
    run = make_run(tmp_path / "run", rows, names=ids(1), data__name="", data__source="synthetic")
    show(browser, write_report([run], tmp_path / "report").as_uri(), 1400)
    script = "const table = document.querySelector('.scrolled'); return table.scrollWidth - table.clientWidth"
    assert len(texts(browser, ".scrolled th")) > 10 and browser.execute_script(script) == 0


@pytest.mark.slow
def test_six_thousand_examples_open_within_three_seconds(browser, tmp_path):
    rng = np.random.default_rng(0)
    file = tmp_path / "image.jpg"
    levels = cv2.resize(rng.integers(0, 256, (8, 8)).astype(np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
    finding = Finding("CAM", file, 0.4, np.array([1, 2, 30, 40]), 0.55, 0, 3)
    examples = []
    page = tmp_path / "index.html"
    with (tmp_path / "pixels").open("w+") as pixels:
        blocks = PixelBlocks(pixels)
        for i in range(6000):
            image = np.roll(levels, i, 1) ^ np.uint8(i % 251)
            jpeg = cv2.imencode(".jpg", image)[1].tobytes()
            name = f"{i % 200:03d}.Class/{i}.jpg"
            examples.append(StoredExample(name, i % 200, name[:9], file, None, finding.box[None], (finding,)))
            blocks.add(Pixels(np.stack([levels] * 3, -1), jpeg, None, (levels,)))
        runs = [run_facts("run", ["CAM"], [], examples, [(64, 64)] * len(examples))]
        write_page(page, {"about": "", "tables": [], "figures": [], "runs": runs, "unsound": [], "leftOut": []}, blocks)
    assert page.stat().st_size > 10e6
    started = time.monotonic()
    show(browser, page.as_uri())
    seconds = time.monotonic() - started
    assert count(browser) == "6,000 of 6,000 examples"
    browser.execute_script("scrollTo(0, document.body.scrollHeight)")
    WebDriverWait(browser, 10).until(lambda page: "199.Class/5999.jpg" in texts(page, ".card .name"))
    assert len(browser.find_elements(By.CLASS_NAME, "card")) < 200
    assert seconds < 3
