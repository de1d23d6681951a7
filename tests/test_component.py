"""The registry of components as a mapping."""

import pytest

from fcam_jax.component import Registry
from fcam_jax.errors import InputError


def test_an_unknown_name_is_refused_but_get_gives_the_default():
    registry = Registry("thing", {"one": 1})
    assert registry["one"] == registry.get("one") == 1
    assert registry.get("two") is None and registry.get("two", 2) == 2
    with pytest.raises(InputError, match="two"):
        registry["two"]
