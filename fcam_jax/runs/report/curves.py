"""Plots of lines as PNG, SVG and PDF files, of figures that the caller has. No name is read as markup."""

import dataclasses
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from fcam_jax.runtime.text import printable, shorten

# Of Okabe and Ito: they differ for colour-blind readers too. The first two are those of the paper's figures.
_COLOURS = ("#E69F00", "#009E73", "#0072B2", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
_FEW_POINTS = 30  # of which each is marked
_UNDATED: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}

Values = Sequence[float | int] | np.ndarray


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a plot."""

    name: str  # in the legend; lines of one name share its entry and its colour
    x: Values
    y: Values  # what is not a number leaves a gap
    spread: Values | None = None  # half the height of the bar at each point
    dot: int | None = None  # number of the point to be marked
    dashed: bool = False  # and thinner


@dataclasses.dataclass(frozen=True)
class Axes:
    """What x and y are, with their units, and the bases of their scales if these are of powers."""

    x_label: str
    y_label: str
    x_powers: int = 0
    y_powers: int = 0
    x_counts: bool = False  # there are no halves


BOX_ACCURACY = Axes("threshold, share of the map's maximum", "images with IoU of 0.5 or more, percent")


def save_plot(paths: Sequence[pathlib.Path], axes: Axes, lines: Sequence[Line], note: str = "") -> None:
    """Save a plot as PNG, SVG or PDF files; equal plots give equal files.

    A note stands above the names in the legend, which is then beside the plot.
    """
    import matplotlib  # here, as a run draws at its end and may have none
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2 if note else 5.6, 3.8), dpi=160, layout="constrained")
    _draw(figure.subplots(), axes, lines, note)
    for path in paths:
        with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "fcam_jax"}):
            # A name may hold letters that the font lacks; they are drawn as empty boxes.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure.savefig(path, metadata=_UNDATED.get(path.suffix))


def _draw(subplot: Any, axes: Axes, lines: Sequence[Line], note: str) -> None:
    names = list(dict.fromkeys(line.name for line in lines))
    few = max((len(line.x) for line in lines), default=0) <= _FEW_POINTS
    handles: dict[str, Any] = {}
    for line in lines:
        colour = _COLOURS[names.index(line.name) % len(_COLOURS)]
        style: dict[str, Any] = {"color": colour, "linewidth": 1.6, "marker": "o" if few else "", "markersize": 3}
        if line.dashed:
            style |= {"linestyle": (0, (4, 2)), "linewidth": 1.0}
        bars = subplot.errorbar(line.x, line.y, yerr=line.spread, capsize=3, **style)
        handles.setdefault(line.name, bars)
        if line.dot is not None:
            subplot.plot(line.x[line.dot], line.y[line.dot], "o", color="#D00000", markersize=6, zorder=3)
    if axes.x_powers:  # with a plain number at every point
        subplot.set_xscale("log", base=axes.x_powers)
        ticks = sorted({float(x) for line in lines for x in line.x})
        subplot.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        subplot.minorticks_off()
    if axes.x_counts:
        subplot.xaxis.get_major_locator().set_params(integer=True)
    if axes.y_powers:
        subplot.set_yscale("log", base=axes.y_powers)
    subplot.set_xlabel(printable(axes.x_label), parse_math=False)
    subplot.set_ylabel(printable(axes.y_label), parse_math=False)
    subplot.grid(color="0.88", linewidth=0.8)
    subplot.set_axisbelow(True)
    subplot.spines[["top", "right"]].set_visible(False)
    if handles:
        style = {"frameon": False, "fontsize": 9}
        if note:
            style |= {"title": note, "title_fontsize": 9, "loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        legend = subplot.legend(list(handles.values()), [shorten(printable(name), 40) for name in handles], **style)
        for text in (*legend.get_texts(), legend.get_title()):
            text.set_parse_math(False)
