"""Results in the repository: its pages say what its data say, and mistakes at the command line are one line."""

import functools

import pytest
from program import ROOT

from fcam_jax.cli import command
from tools.publication.blocks import BLOCKS, block
from tools.publication.data import read_published
from tools.publication.pages import filled

DATA = sorted((ROOT / "docs" / "results").glob("*.json"))
PAGES = [ROOT / page for page in ("README.md", "docs/results.md", "docs/history.md")]


def as_published(page, path):
    of = functools.partial(block, data=read_published(path))
    return filled(page.read_text(encoding="utf-8"), page.name, path.stem, BLOCKS, of)


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="no results are published yet")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_says_what_the_data_say(page):
    text = page.read_text(encoding="utf-8")
    for path in DATA:
        assert text == as_published(page, path), f"fcam publish --data={path} --page={page}"


@pytest.mark.slow
@pytest.mark.parametrize("path", DATA, ids=lambda path: path.name)
def test_published_data_are_small_and_whole(path):
    assert path.stat().st_size < 300_000
    data = read_published(path)
    assert all(block(name, data) for name in BLOCKS)
    for picture in path.parent.glob(f"{path.stem}-*"):
        assert picture.stat().st_size < (150_000 if picture.suffix == ".png" else 300_000), picture


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(SystemExit) as ended:
        command.main(["publish", f"--data={tmp_path / 'none.json'}"])
    told = f"{tmp_path / 'none.json'}: no such file; --workdir=DIR collects the runs in DIR into it"
    assert ended.value.code == f"error: --data={told}"
