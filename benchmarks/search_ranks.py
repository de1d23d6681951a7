"""How well candidates for F-CAM's settings are ranked without boxes: against the ranks that boxes give.

    python -m benchmarks.search_ranks runs/a runs/b ...

of runs with a search (`fcam.search.updates`) and boxes or masks in `val`. For each run: every candidate's figure on
`val`, the seeds' cross-entropy and the normalised cut of the training images; Spearman's rank correlation of both
orders; and what is lost on `val` where the candidate that is best without boxes is taken.
"""

import argparse
import json
import math
import pathlib
from typing import Any

from scipy.stats import spearmanr

FIGURES = ("MaxBoxAccV2", "PxAP")


def without_boxes(figures: dict[str, float]) -> float:
    """The score that a run without boxes would have used."""
    return -figures["cut"] if figures["seeds"] <= math.log(2) else -1 - figures["seeds"]


def table(run: pathlib.Path) -> str:
    """The candidates of a run, and how both orders agree."""
    rows: list[dict[str, Any]] = json.loads((run / "fcam" / "search.json").read_text())["candidates"]
    by = next((name for name in FIGURES if name in rows[0]["figures"]), None)
    if by is None:
        return f"{run}: val has no boxes or masks"
    rows.sort(key=lambda row: -without_boxes(row["figures"]))
    lines = [f"{run}", f"| crf | n- | color | {by} | seeds | cut |", "|--:|--:|--:|--:|--:|--:|"]
    for row in rows:
        settings, figures = row["settings"], row["figures"]
        values = [settings["crf"], settings["background_fraction"], settings["color"]]
        lines.append(
            "| " + " | ".join(f"{value:g}" for value in values) + f" | {figures[by]:.1f} | {figures['seeds']:.2f} | "
            f"{figures['cut']:.3f} |"
        )
    seen = [row["figures"][by] for row in rows]
    rank = spearmanr([without_boxes(row["figures"]) for row in rows], seen).statistic
    return "\n".join(
        [*lines, f"rank correlation {rank:.2f}; lost where no box is known: {max(seen) - seen[0]:.1f}", ""]
    )


def main() -> None:
    """Print a table for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="+", type=pathlib.Path)
    for run in parser.parse_args().run:
        print(table(run))


if __name__ == "__main__":
    main()
