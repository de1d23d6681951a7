"""The page on any network: its code runs in order in a process of its own, and prints what it says."""

import os
import pathlib
import subprocess
import sys

import pytest
from program import QUICKLY_COMPILED

ROOT = pathlib.Path(__file__).resolve().parents[2]
READER = """
import pathlib, re
blocks = re.findall(r"```python\\n(.*?)```", pathlib.Path("docs/any_network.md").read_text(), re.S)
names = {}
for block in blocks:
    exec(compile(block, "docs/any_network.md", "exec"), names)
print("picture", names["picture"].pixels.std() > 0)
"""

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_the_page_runs_and_prints_what_it_says():
    environment = os.environ | {"XLA_FLAGS": QUICKLY_COMPILED, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", READER]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert printed[0].startswith("(2, 32, 32) [") and printed[-1] == "picture True"
    page = (ROOT / "docs" / "any_network.md").read_text()
    expected = [line.removeprefix("# ") for line in page.splitlines() if line.startswith("# ")][1:]
    assert len(expected) == 6 and printed[-1 - len(expected) : -1] == expected
    assert float(printed[-2 - len(expected)]) < 1e-5
