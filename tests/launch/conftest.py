"""Programs of clusters that only note how they are called, in place of those that there may be."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

FAKE = f"""#!{sys.executable}
import json, os, pathlib, sys
name = pathlib.Path(sys.argv[0]).name
folder = pathlib.Path(os.environ["FAKES"])
text = "" if os.isatty(0) or name != "kubectl" else sys.stdin.read()
with (folder / "calls").open("a") as file:
    file.write(json.dumps([name, *sys.argv[1:], *([text] if text else [])]) + "\\n")
answers = folder / name
lines = answers.read_text().splitlines() if answers.is_file() else []
if lines:
    answers.write_text("".join(f"{{line}}\\n" for line in lines[1:]))
status, _, said = lines[0].partition(" ") if lines else ("0", "", "")
if said:
    print(said)
sys.exit(int(status))
"""


class Fakes:
    """A folder of programs that note their calls and answer as they are told to."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        for name in ("srun", "sbatch", "scontrol", "gcloud", "kubectl", "python"):
            path = folder / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(FAKE)
            path.chmod(0o755)

    def answer(self, name: str, *lines: str) -> None:
        """What a program says on its next calls, after its exit status."""
        (self.folder / name).write_text("".join(f"{line}\n" for line in lines))

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script of launch/ with the programs."""
        env = os.environ | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "FAKES": str(self.folder),
            "FCAM_PYTHON": str(self.folder / "bin" / "python"),
            "FCAM_PAUSE": "0",
        }
        return subprocess.run(
            [str(ROOT / "launch" / script), *arguments],
            env=env | environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def calls(self, name: str) -> list[list[str]]:
        """The arguments of each call of a program."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.is_file() else []
        return [arguments for called, *arguments in map(json.loads, lines) if called == name]


@pytest.fixture
def fakes(tmp_path) -> Fakes:
    return Fakes(tmp_path)
