"""Grids: valid files of the expected size, with the right cells in the right places, whatever the names are."""

import numpy as np
import pytest
from PIL import Image

from fcam_jax.runs.report.drawing import CELL, PREDICTED_COLOUR, TRUE_COLOUR
from fcam_jax.runs.report.pictures import GridRow, save_grid, spread
from fcam_jax.types import Annotation

# Of all images; no shade of text has it.
COLOUR = (100, 120, 90)
ODD_NAMES = [
    "$x^2$.jpg",
    "$unclosed_{",
    "a\\b\n\tc\x00.jpg",
    "鳥/🐦.png",
    "\udcff.jpg",
    "",
    "_hidden",
    "%s {0}",
    "ab/" * 90 + "last.jpg",
]


def example(shape=(64, 64), image_id="test/000001", class_name="4", boxes=True, mask=True, titles=("CAM", "F-CAM")):
    height, width = shape
    truth = np.zeros(shape, bool)
    truth[height // 4 : height // 2, width // 4 : width // 2] = True
    corners = np.array([width // 4, height // 4, width // 2 - 1, height // 2 - 1])
    image = np.full((*shape, 3), COLOUR, np.uint8)
    annotation = Annotation(image_id, 4, corners[None] if boxes else None, truth if mask else None)
    return GridRow(image, annotation, class_name, {title: (np.uint8(255) * truth, 0.5) for title in titles})


def read(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def where(image, colour):
    return (image == colour).all(-1)


def test_grid_has_a_cell_for_the_image_and_two_for_every_method(tmp_path):
    save_grid(tmp_path / "grid.png", [example(), example()])
    pixels = read(tmp_path / "grid.png")
    assert pixels.shape[1] > 5 * CELL and pixels.shape[0] > 2 * CELL
    assert (pixels[0] == 255).all() and (pixels[:, 0] == 255).all() and (pixels[:, -1] == 255).all()
    # Columns in which the image's own colour is seen, in runs: image and localization of both methods.
    seen = where(pixels, COLOUR).any(0)
    assert np.diff(seen.astype(int)).clip(0).sum() == 3


def test_cells_stand_in_the_file_pixel_by_pixel(tmp_path):
    save_grid(tmp_path / "grid.png", [example(mask=False, titles=())])
    pixels = read(tmp_path / "grid.png")
    rows, columns = np.nonzero(where(pixels, TRUE_COLOUR))
    # The box of pixels 16 to 31 at 2.5 times its size.
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (40, 40)
    assert where(pixels, TRUE_COLOUR).sum() == 40**2 - 36**2
    assert (where(pixels, TRUE_COLOUR) | where(pixels, COLOUR)).sum() == CELL**2


def test_predicted_boxes_are_red_and_true_ones_green(tmp_path):
    save_grid(tmp_path / "grid.png", [example(titles=("CAM",))])
    pixels = read(tmp_path / "grid.png")
    green, red = (np.nonzero(where(pixels, colour))[1] for colour in (TRUE_COLOUR, PREDICTED_COLOUR))
    assert len(green) > len(red) > 100
    # The prediction is in the last cell alone, one pixel of the image further to the right.
    assert green.min() < pixels.shape[1] - 2 * CELL < pixels.shape[1] - CELL - 10 < red.min()
    assert red.max() - green.max() in (2, 3)


def test_grid_takes_images_of_all_shapes_without_ground_truth(tmp_path):
    shapes = [(64, 64), (40, 90), (300, 224), (2, 400), (400, 2)]
    save_grid(tmp_path / "grid.png", [example(shape, boxes=i % 2 == 0, mask=i == 1) for i, shape in enumerate(shapes)])
    assert len(read(tmp_path / "grid.png")) > sum(CELL * h // max(h, w) for h, w in shapes)


def test_a_map_of_zeros_without_ground_truth(tmp_path):
    panels = {"CAM": (np.zeros((32, 32), np.uint8), 0.5)}
    save_grid(tmp_path / "grid.png", [GridRow(np.zeros((32, 32, 3), np.uint8), Annotation("id", 0), "class", panels)])
    read(tmp_path / "grid.png")


def test_names_are_drawn_whatever_they_hold(tmp_path):
    rows = [example(image_id=name, class_name=name, titles=(ODD_NAMES[1], ODD_NAMES[-1])) for name in ODD_NAMES]
    save_grid(tmp_path / "grid.png", rows)
    read(tmp_path / "grid.png")


def test_label_stays_clear_of_the_cells(tmp_path):
    save_grid(tmp_path / "short.png", [example(image_id="", class_name="")])
    save_grid(tmp_path / "long.png", [example(image_id="W" * 90, class_name="W" * 90)])
    short, long = read(tmp_path / "short.png"), read(tmp_path / "long.png")
    changed = np.nonzero((short != long).any(-1).any(0))[0]
    assert len(changed) > 0
    assert changed.max() < short.shape[1] - 5 * (CELL + 6)


@pytest.mark.parametrize("rows", [[], [example(), example(titles=("CAM",))]])
def test_rows_that_make_no_figure_are_refused(rows, tmp_path):
    with pytest.raises(ValueError, match="needs examples"):
        save_grid(tmp_path / "none.png", rows)


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [0]), (3, [0, 4, 9]), (10, list(range(10))), (99, list(range(10))), (0, [])]
)
def test_fewer_examples_are_spread_over_all(count, chosen):
    assert spread(list(range(10)), count) == chosen
