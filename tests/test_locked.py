"""The versions that are installed are pinned with their hashes, and are all that is needed."""

import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "locked").glob("*.txt"))


def pins(path: pathlib.Path) -> list[str]:
    """All that is said of a package, a line for each version."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def name(line: str) -> str:
    return re.sub("[-_.]+", "-", re.match(r"[\w.-]+", line)[0]).lower()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_package_has_a_version_and_hashes(path):
    for line in pins(path):
        assert re.match(r"[\w.-]+==[\w.]+ ( *;[^#]*?)?( *--hash=sha256:[0-9a-f]{64})+$", line), line


@pytest.mark.parametrize(
    ("needed", "locked"),
    [
        ((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines(), "all"),
        (tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]["dev"], "dev"),
    ],
    ids=["all", "dev"],
)
def test_all_that_is_asked_for_is_pinned(needed, locked):
    pinned = {name(line) for line in pins(ROOT / "locked" / f"{locked}.txt")}
    assert {name(line) for line in needed if not line.startswith("#")} <= pinned


def test_no_file_has_another_version_than_all():
    versions = {line.split()[0] for line in pins(ROOT / "locked" / "all.txt")}
    packages = {name(version) for version in versions}
    for path in FILES:
        assert {line.split()[0] for line in pins(path) if name(line) in packages} <= versions
