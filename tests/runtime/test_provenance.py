import shutil
import subprocess

import jax
import pytest

import fcam_jax
from fcam_jax.runtime import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout that the package seems to lie in, with one commit."""
    if shutil.which("git") is None:
        pytest.skip("no git here")
    package = tmp_path / "fcam_jax"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(provenance.fcam_jax, "__file__", str(package / "__init__.py"))
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


def test_names_the_commit_and_tells_changes(checkout):
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True).stdout.strip()
    assert provenance.program() == {"version": fcam_jax.__version__, "commit": commit, "modified": False}
    (checkout / "runs.txt").write_text("an untracked file is no change of the program")
    assert provenance.program()["modified"] is False
    (checkout / "fcam_jax" / "__init__.py").write_text("x = 1\n")
    assert provenance.program()["modified"] is True


def test_without_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance.fcam_jax, "__file__", str(tmp_path / "fcam_jax" / "__init__.py"))
    assert provenance.program() == {"version": fcam_jax.__version__, "commit": None, "modified": None}


def test_without_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", str(checkout / "nowhere"))
    assert provenance.program()["commit"] is None


def test_machine_counts_the_devices():
    found = provenance.machine()
    assert found["platform"] == "cpu" and sum(found["devices"].values()) == len(jax.devices())
    assert found["jax"] == jax.__version__ and found["cpu"] and found["cores"] >= 1


def test_a_processor_without_a_name_is_told_by_its_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_CPU_FACTS", tmp_path / "none")
    provenance._processor.cache_clear()
    try:
        assert provenance.machine()["cpu"]
    finally:
        provenance._processor.cache_clear()
