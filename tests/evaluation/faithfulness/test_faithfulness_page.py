"""The code of docs/faithfulness.md runs in order, and what it makes has the shapes and ranges that the page says."""

import pathlib
import re

import numpy as np
import pytest

PAGE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "faithfulness.md"


@pytest.mark.slow
@pytest.mark.long
def test_the_page_runs_in_order():
    scope = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, scope)
    figures = {name: scope[name] for name in ("inserted", "deleted", "road", "change")}
    figures |= scope["seen"] | scope["whole"]
    assert {values.shape for values in figures.values()} == {(3,)}
    for name, values in figures.items():
        low, high = {"road": (-0.5, 0.5), "change": (0, np.inf)}.get(name, (0, 1))
        assert (low <= values).all() and (values <= high).all(), name
    assert {values.shape for values in scope["likeness"].values()} == {(3, 2)}
    assert (scope["filled"] == scope["images"])[scope["kept"]].all()
