"""What pages show of published results, by name: each block is a table in Markdown, of the data alone.

In: `Published`. Out: text. The paper's figures beside ours are those of CUB with a ResNet50.
"""

import statistics
from collections.abc import Callable, Sequence

from fcam_jax.runs.report.aggregate import Figure, Row, settings_text
from fcam_jax.runs.report.paper import PaperMethod, entries, published
from fcam_jax.runs.report.tables import Cell, Table, figure_cell, markdown
from tools.publication.data import CURVE, Published
from tools.publication.groups import TERMS, Pair, alone, by_seed, center, families, figure, paired, pairs, records
from tools.publication.run_blocks import provenance, runs, time

_DATASET, _ENCODER, _ABLATION = "CUB", "resnet50", "3"
_NOTHING = Cell("-")
_SPREAD = "mean ± sample standard deviation (number of seeds)"
_IN_A_PART = "BoxAcc_at_best"


def block(name: str, data: Published) -> str:
    """The text of a block.

    Args:
      name: one of `BLOCKS`.
      data: the results.
    """
    return markdown(BLOCKS[name](data))


def _main(data: Published) -> Table:
    """Each CAM, F-CAM on it and the gain, beside the paper's; the mean over CAMs."""
    whole, others, centred = pairs(data.runs), alone(data.runs), center(data.runs)
    if centred is not None:
        others.insert(0, Pair(centred.name, centred.method, centred, None))
    lines = [(pair.title, [*_ours(pair), *_papers(pair.method)]) for pair in (*others, *whole)]
    lines += _means(lines[len(others) :])
    columns_and_signs = {
        "map": "",
        "MaxBoxAcc": "",
        "F-CAM on it": "",
        "gain": "+",
        "F-CAM's MaxBoxAccV2": "",
        "its top-1 localization": "",
        "paper: map": "",
        "paper: F-CAM": "",
        "paper: gain": "+",
    }
    signs = list(columns_and_signs.values())[1:]
    rows = tuple((Cell(title), *map(figure_cell, figures, signs)) for title, figures in lines)
    caption = (
        f"MaxBoxAcc of each map and of F-CAM on it, percent of {_images(data)}, at the thresholds that are "
        f"best on them; {_SPREAD}. The paper's figures are those of all of CUB with a ResNet50"
    )
    return Table(caption, tuple(columns_and_signs), rows, 1)


def _means(lines: Sequence[tuple[str, Sequence[Figure | None]]]) -> list[tuple[str, list[Figure | None]]]:
    """A line of the means over CAMs, below those of two or more."""
    columns = zip(*(figures for _, figures in lines), strict=True)
    return [(f"mean of these {len(lines)} CAMs", list(map(_mean, columns)))] if len(lines) > 1 else []


def _ours(pair: Pair) -> list[Figure | None]:
    gain = paired(pair.fcam, pair.cam, CURVE)
    own = (figure(pair.fcam, metric) for metric in (CURVE, "MaxBoxAccV2", "top1_loc"))
    fcam, v2, top1 = own
    return [figure(pair.cam, CURVE), fcam, gain, v2, top1]


def _papers(of: PaperMethod) -> list[Figure | None]:
    both = [published(_DATASET, _ENCODER, PaperMethod(of.name, plus), CURVE) for plus in ("", "F-CAM")]
    cam, fcam = both
    gain = None if cam is None or fcam is None else fcam - cam
    return [None if value is None else Figure((value,)) for value in (cam, fcam, gain)]


def _mean(figures: Sequence[Figure | None]) -> Figure | None:
    """The mean of means, without a deviation: CAMs are no sample."""
    known = [one.mean for one in figures if one is not None]
    return Figure((statistics.fmean(known),)) if known else None


def _terms(data: Published) -> Table:
    """The CAM, and F-CAM with one term more in each line, beside the paper's ablation."""
    encoders = list(dict.fromkeys(e.encoder for e in entries() if (e.table, e.dataset) == (_ABLATION, _DATASET)))
    rows = []
    for family in families(data.runs):
        before = by_seed(family.cam, CURVE)
        all_seeds = Figure(tuple(before.values())) if before else None
        papers = _ablation(PaperMethod(family.method.name), encoders)
        rows.append((Cell(family.title), figure_cell(all_seeds), _NOTHING, *papers))
        for term, variants in family.terms.items():
            papers = _ablation(PaperMethod(family.method.name, term), encoders)
            for row in variants:
                name = TERMS[term]
                if len(variants) > 1:
                    name += f" ({settings_text(row.configuration.settings)})"
                differences = _by_seed(by_seed([row], CURVE), before)
                rows.append((Cell(name), figure_cell(figure(row, CURVE)), differences, *papers))
            before = by_seed(variants, CURVE)
    columns = ("map", "MaxBoxAcc", "difference to the row above, by seed", *(f"paper: {name}" for name in encoders))
    caption = (
        f"F-CAM with more and more terms of its loss, MaxBoxAcc in percent of {_images(data)}; {_SPREAD}. The paper's "
        "figures are those of all of CUB, its Table 3"
    )
    return Table(caption, columns, tuple(rows), 1)


def _ablation(of: PaperMethod, encoders: Sequence[str]) -> list[Cell]:
    return [figure_cell(published(_DATASET, encoder, of, CURVE)) for encoder in encoders]


def _by_seed(new: dict, old: dict) -> Cell:
    differences = [f"{new[seed] - old[seed]:+z.1f}" for seed in sorted(new) if seed in old]
    return Cell(", ".join(differences)) if differences else _NOTHING


def _plateau(data: Published) -> Table:
    """How far a threshold may be off, of each CAM and F-CAM on it."""
    others, whole = alone(data.runs), pairs(data.runs)
    lines = []
    for pair in (*others, *whole):
        names = ("MaxBoxAcc_threshold", "plateau_width")
        figures = [figure(row, name) for row in (pair.cam, pair.fcam) for name in names]
        ratio = paired(pair.fcam, pair.cam, "plateau_width", lambda new, old: new / old if old else None)
        lines.append((pair.title, [*figures, ratio, figure(pair.fcam, CURVE), figure(pair.decided, CURVE)]))
    lines += _means(lines[len(others) :])
    digits = (2, 2, 2, 2, 1, 1, 1)
    rows = tuple(
        (Cell(title), *(figure_cell(one, digits=places) for one, places in zip(figures, digits, strict=True)))
        for title, figures in lines
    )
    columns = (
        "map",
        "best threshold",
        "plateau",
        "F-CAM: best threshold",
        "F-CAM: plateau",
        "ratio",
        "F-CAM at its best",
        "F-CAM without a threshold",
    )
    caption = (
        "The threshold that is best, as a share of the map's maximum, and the width of the interval around it in which "
        "MaxBoxAcc stays within 5 points of its maximum; ratio: F-CAM's over the CAM's. MaxBoxAcc of F-CAM at its best "
        f"threshold, and without one: foreground where that is likelier than background; {_SPREAD}"
    )
    return Table(caption, columns, rows, 1)


def _activations(data: Published) -> Table:
    """What values the maps take."""
    rows = []
    for title, row in _all_rows(data):
        modes = [bool(record.figures["second_mode"]) for _, record in records(row)]
        second = "yes" if all(modes) else "no" if not any(modes) else f"{sum(modes)} of {len(modes)}"
        shares = (figure_cell(figure(row, f"activations_{name}")) for name in ("high", "middle"))
        rows.append((Cell(title), *shares, Cell(second)))
    columns = ("map", "0.9 or more", "0.4 to 0.6", "second mode near 1")
    caption = (
        f"Values of the maps' pixels, percent of those of {_images(data)}; a second mode near 1 is a hill of the "
        f"histogram above 0.8 that a valley, 1.5 times as low, parts from the hill below 0.5; {_SPREAD}"
    )
    return Table(caption, columns, tuple(rows), 1)


def _sizes(data: Published) -> Table:
    """Box accuracy by the object's share of the image."""
    found = _all_rows(data)
    parts: dict[str, float] = {}
    for _, row in found:
        for _, record in records(row):
            for part, figures in record.by_size.items():
                parts.setdefault(part, figures["images"])
    rows = []
    for title, row in found:
        cells = []
        for part in parts:
            known = [record.by_size.get(part, {}).get(_IN_A_PART) for _, record in records(row)]
            there = tuple(value for value in known if value is not None)
            cells.append(figure_cell(Figure(there) if there else None))
        rows.append((Cell(title), *cells))
    columns = ("map", *(f"{part} ({images:,.0f} images)" for part, images in parts.items()))
    caption = (
        "Images whose box is right, percent, by the object's share of the image, at the threshold that is best for "
        f"all images; {_SPREAD}"
    )
    return Table(caption, columns, tuple(rows), 1)


def _figures(data: Published) -> Table:
    """Every map with the figures of the protocol."""
    columns = ("MaxBoxAcc", "MaxBoxAccV2", "PxAP", "top1_loc", "top1_cls")
    rows = [
        (Cell(title), *(figure_cell(figure(row, metric), "") for metric in columns)) for title, row in _all_rows(data)
    ]
    return Table(f"Percent of {_images(data)}; {_SPREAD}", ("map", *columns), tuple(rows), 1)


def _all_rows(data: Published) -> list[tuple[str, Row]]:
    """The centred map, CAMs without F-CAM, then each CAM with F-CAM on it."""
    centred = center(data.runs)
    first = [] if centred is None else [(centred.name, centred)]
    return first + [one for pair in (*alone(data.runs), *pairs(data.runs)) for one in pair.rows()]


def _images(data: Published) -> str:
    """The evaluated images in words."""
    kinds = dict.fromkeys((record.images, record.split) for run in data.runs for record in run.records)
    return " or ".join(f"{images:,} {split} images" for images, split in kinds)


BLOCKS: dict[str, Callable[[Published], Table]] = {
    "main": _main,
    "figures": _figures,
    "terms": _terms,
    "plateau": _plateau,
    "activations": _activations,
    "sizes": _sizes,
    "time": time,
    "runs": runs,
    "provenance": provenance,
}
