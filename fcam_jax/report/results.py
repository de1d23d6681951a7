"""Results as tables for people."""

from collections.abc import Mapping

COLUMNS = ("MaxBoxAcc", "MaxBoxAccV2", "PxAP", "top1_loc", "top5_loc", "top1_cls")


def results_table(methods: Mapping[str, Mapping[str, float]]) -> str:
    """One row a method, percent; the last row is what the last method gains over the first.

    Columns that no method has are left out; so is the last row where there is one method only.
    """
    columns = [name for name in COLUMNS if any(name in metrics for metrics in methods.values())]
    rows = [[name, *(_figure(metrics.get(column)) for column in columns)] for name, metrics in methods.items()]
    first, *_, last = methods.values() if len(methods) > 1 else (None, None)
    if first is not None and last is not None:
        gains = [last[c] - first[c] if c in first and c in last else None for c in columns]
        rows.append(["gain", *(_figure(gain, "+") for gain in gains)])
    lines = [["test, percent", *columns], *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns) + 1)]
    return "\n".join(
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    )


def _figure(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.1f}"
