"""Plots: PNG and SVG files that show every line, whatever the names are."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image
from test_pictures import ODD_NAMES

from fcam_jax.runs.report.curves import Axes, Line, save_plot

AXES = Axes("threshold", "MaxBoxAcc, percent")
X = np.linspace(0, 1, 50)


def pixels(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def coloured(path, colour):
    return (np.abs(pixels(path) - colour).max(-1) < 40).sum()


def test_every_line_is_drawn_and_lines_of_one_name_share_a_colour(tmp_path):
    lines = [Line("CAM", X, 90 - 80 * X), Line("CAM", X, 60 - 50 * X), Line("F-CAM", X, 90 - 20 * X)]
    for count in (1, 2, 3):
        save_plot([tmp_path / f"{count}.png"], AXES, lines[:count])
    orange, green = (0xE6, 0x9F, 0x00), (0x00, 0x9E, 0x73)
    one, two, three = (coloured(tmp_path / f"{count}.png", orange) for count in (1, 2, 3))
    assert one > 1000 and two > 1.5 * one and three > 1.3 * one
    assert coloured(tmp_path / "2.png", green) == 0 < coloured(tmp_path / "3.png", green)


def test_dashed_lines_are_thinner_and_a_note_stands_beside_the_plot(tmp_path):
    solid, dashed, noted = (tmp_path / f"{name}.png" for name in ("solid", "dashed", "noted"))
    save_plot([solid], AXES, [Line("CAM", X, 90 - 80 * X)])
    save_plot([dashed], AXES, [Line("CAM", X, 90 - 80 * X, dashed=True)])
    save_plot([noted], AXES, [Line("CAM", X, 90 - 80 * X)], "$solid$: this")
    orange = (0xE6, 0x9F, 0x00)
    assert 0 < coloured(dashed, orange) < 0.6 * coloured(solid, orange)
    assert pixels(noted).shape[1] > pixels(solid).shape[1]


def test_a_spread_has_bars_and_a_dot_is_marked(tmp_path):
    plain, bars, dot = (tmp_path / f"{name}.png" for name in ("plain", "bars", "dot"))
    save_plot([plain], AXES, [Line("CAM", [1, 2, 3], [10, 20, 30])])
    save_plot([bars], AXES, [Line("CAM", [1, 2, 3], [10, 20, 30], spread=[5, 5, 5])])
    save_plot([dot], AXES, [Line("CAM", [1, 2, 3], [10, 20, 30], dot=1)])
    assert coloured(bars, (0xE6, 0x9F, 0x00)) > coloured(plain, (0xE6, 0x9F, 0x00)) + 100
    assert coloured(dot, (0xD0, 0, 0)) > 50 > coloured(plain, (0xD0, 0, 0))


def test_svg_is_valid_alone_and_what_is_of_vectors_the_same_every_time(tmp_path):
    for name in ("a", "b"):
        save_plot([tmp_path / f"{name}.svg"], AXES, [Line("<script>alert(1)</script>", X, X)])
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    for name in ("a", "b"):
        save_plot([tmp_path / f"{name}.pdf"], AXES, [Line("CAM", X, X)])
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    tags = {element.tag.split("}")[1] for element in ElementTree.fromstring(text).iter()}
    assert "path" in tags and not tags & {"script", "image", "foreignObject"}


def test_what_is_counted_has_whole_numbers_at_its_axis(tmp_path):
    for counts in (False, True):
        path = tmp_path / f"{counts}.svg"
        save_plot([path], Axes("epoch", "percent", x_counts=counts), [Line("CAM", range(3), [10, 20, 30])])
        assert ("<!-- 0.5 -->" in path.read_text() or "<!-- 0.50 -->" in path.read_text()) is not counts


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_names_are_drawn_whatever_they_hold(tmp_path, kind):
    path = tmp_path / f"curves.{kind}"
    save_plot([path], Axes(ODD_NAMES[0], ODD_NAMES[1]), [Line(name, [0], [0]) for name in ODD_NAMES])
    assert path.stat().st_size > 1000


def test_missing_values_and_no_line_at_all(tmp_path):
    save_plot([tmp_path / "gap.png"], AXES, [Line("loss", [1, 2, 3], [1.0, float("nan"), 2.0])])
    save_plot([tmp_path / "empty.png"], AXES, [])
    assert pixels(tmp_path / "gap.png").shape == pixels(tmp_path / "empty.png").shape


@pytest.mark.slow
def test_scales_of_powers(tmp_path):
    even, powers = tmp_path / "even.png", tmp_path / "powers.png"
    lines = [Line("PxAP", [1, 2, 4, 8, 32], [100, 90, 10, 1, 0.01])]
    save_plot([even], AXES, lines)
    save_plot([powers], Axes("factor", "PxAP", x_powers=2, y_powers=10), lines)
    assert (pixels(even) != pixels(powers)).any()
