"""Plots of lines as PNG and SVG files.

In: figures that the caller has computed; nothing is measured here. Names may hold any letters: none is read as markup.
"""

import dataclasses
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes as Subplot
from matplotlib.figure import Figure

from fcam_jax.runtime.text import printable, shorten

# Of Okabe and Ito: they differ for colour-blind readers too. The first two are those of the paper's figures.
_COLOURS = ("#E69F00", "#009E73", "#0072B2", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
_NAME_LETTERS = 40
_FEW_POINTS = 30
_WIDTH, _NOTE_WIDTH = 5.6, 1.6  # in inches
_JPEG_QUALITY = 75

Values = Sequence[float | int] | np.ndarray


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a plot."""

    name: str  # in the legend; lines of one name share its entry and its colour
    x: Values  # positions
    y: Values  # values; what is not a number leaves a gap
    spread: Values | None = None  # half the height of the bar at each point, or None
    dot: int | None = None  # number of the point to be marked, or None
    dashed: bool = False  # whether it is drawn dashed and thinner


@dataclasses.dataclass(frozen=True)
class Axes:
    """What x and y are, with their units, and whether they are drawn on a scale of powers."""

    x_label: str  # of x
    y_label: str  # of y
    x_powers: int = 0  # base of the scale of x; 0 for an even one
    y_powers: int = 0  # the same for y


@dataclasses.dataclass(frozen=True)
class Plot:
    """Lines on one pair of axes."""

    axes: Axes  # what x and y are
    lines: Sequence[Line]  # what is drawn
    note: str = ""  # above the names in the legend, which then stands beside the plot


BOX_ACCURACY = Axes("threshold, share of the map's maximum", "images with IoU of 0.5 or more, percent")


def save_plot(paths: Sequence[pathlib.Path], plot: Plot) -> None:
    """Save a plot as PNG or SVG files; the same figure goes to each."""
    figure = Figure(figsize=(_WIDTH + (_NOTE_WIDTH if plot.note else 0), 3.8), dpi=160, layout="constrained")
    _draw(figure.subplots(), plot)
    for path in paths:
        save_figure(figure, path)


def save_figure(figure: Figure, path: pathlib.Path) -> None:
    """Save a figure in the format that the file's name asks for; equal figures give equal files."""
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "fcam_jax"}):
        # A name may hold letters that the font lacks; they are drawn as empty boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        settings: dict[str, dict[str, Any]] = {
            ".svg": {"metadata": {"Date": None}},
            ".jpg": {"pil_kwargs": {"quality": _JPEG_QUALITY}},
        }
        figure.savefig(path, format=path.suffix[1:], **settings.get(path.suffix, {}))


def _draw(subplot: Subplot, plot: Plot) -> None:
    names = list(dict.fromkeys(line.name for line in plot.lines))
    few = max((len(line.x) for line in plot.lines), default=0) <= _FEW_POINTS
    handles: dict[str, Any] = {}
    for line in plot.lines:
        colour = _COLOURS[names.index(line.name) % len(_COLOURS)]
        style: dict[str, Any] = {"color": colour, "linewidth": 1.6, "marker": "o" if few else "", "markersize": 3}
        if line.dashed:
            style |= {"linestyle": (0, (4, 2)), "linewidth": 1.0}
        bars = subplot.errorbar(line.x, line.y, yerr=line.spread, capsize=3, **style)
        handles.setdefault(line.name, bars)
        if line.dot is not None:
            subplot.plot(line.x[line.dot], line.y[line.dot], "o", color="#D00000", markersize=6, zorder=3)
    if plot.axes.x_powers:
        _ticks_at_powers(subplot, plot)
    if plot.axes.y_powers:
        subplot.set_yscale("log", base=plot.axes.y_powers)
    subplot.set_xlabel(printable(plot.axes.x_label), parse_math=False)
    subplot.set_ylabel(printable(plot.axes.y_label), parse_math=False)
    subplot.grid(color="0.88", linewidth=0.8)
    subplot.set_axisbelow(True)
    subplot.spines[["top", "right"]].set_visible(False)
    if handles:
        labels = [shorten(printable(name), _NAME_LETTERS) for name in handles]
        style = {"frameon": False, "fontsize": 9}
        if plot.note:
            style |= {"title": plot.note, "title_fontsize": 9, "loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        legend = subplot.legend(list(handles.values()), labels, **style)
        for text in (*legend.get_texts(), legend.get_title()):
            text.set_parse_math(False)


def _ticks_at_powers(subplot: Subplot, plot: Plot) -> None:
    """A tick with a plain number at every point."""
    subplot.set_xscale("log", base=plot.axes.x_powers)
    ticks = sorted({float(x) for line in plot.lines for x in line.x})
    subplot.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    subplot.minorticks_off()
