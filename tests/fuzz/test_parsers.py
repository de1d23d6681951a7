"""Every parser keeps its word on damaged input: a few of the inputs that ``python -m tests.fuzz`` tries for hours."""

import json

import pytest

from tests.fuzz.guard import check, explore, make
from tests.fuzz.parsers import PARSERS


@pytest.mark.parametrize("name", PARSERS)
def test_valid_input_is_read(name, tmp_path):
    parser = PARSERS[name]
    make(parser, tmp_path / "whole")
    for path in sorted(path for path in (tmp_path / "whole").glob(parser.damaged) if path.is_file()):
        assert parser.takes(check(parser, tmp_path / "whole", path))


@pytest.mark.sampled
@pytest.mark.parametrize("name", PARSERS)
def test_damaged_input_is_read_or_refused_in_one_line(name, tmp_path):
    found = explore(PARSERS[name], tmp_path / name, examples=10)
    if found.damage is not None:
        case = {"parser": name, "damage": found.damage.as_json()}
        (tmp_path / "case.json").write_text(json.dumps(case))
        pytest.fail(f"{found.error}; python -m tests.fuzz --replay={tmp_path}")
    assert name == "log" or not all(map(PARSERS[name].takes, found.said)), "no damage was noticed"
