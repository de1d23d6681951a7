"""Results as tables for people."""

from collections.abc import Mapping

from fcam_jax.evaluation.metrics import columns as columns_of
from fcam_jax.runtime.text import aligned


def results_table(
    methods: Mapping[str, Mapping[str, float]], first: str | None = None, last: str | None = None, split: str = "test"
) -> str:
    """One row a method, percent; the last row is what one method gains over another.

    Columns that no method has are left out; so is the last row where nothing gains over another method.

    Args:
      methods: figures by name, by the method's name.
      first: what the gain is over; by default the first method.
      last: what gains; by default the last method.
      split: the data evaluated.
    """
    columns = columns_of(name for metrics in methods.values() for name in metrics)
    rows = [[name, *(_figure(metrics.get(column)) for column in columns)] for name, metrics in methods.items()]
    names = list(methods)
    first, last = first or names[0], last or names[-1]
    if first != last:
        old, new = methods[first], methods[last]
        gains = [new[column] - old[column] if column in old and column in new else None for column in columns]
        rows.append(["gain", *(_figure(gain, "+") for gain in gains)])
    return aligned([[f"{split}, percent", *columns], *rows])


def _figure(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}z.1f}"
