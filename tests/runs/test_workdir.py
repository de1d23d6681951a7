"""The record of a run: what may change between two calls on one folder and what may not."""

import copy
import errno
import fcntl
import json
import os

import pytest

from fcam_jax.errors import InputError
from fcam_jax.runs import folder as workdir
from fcam_jax.runs.folder import claim

CONFIG = {
    "seed": 0,
    "log_steps": 10,
    "last_stage": "classifier",
    "data": {"root": "/a", "size": 64, "cache_gigabytes": 2.0},
    "model": {"init": "w.safetensors", "decoder_widths": (64, 32)},
    "fcam": {"loss": {"crf": {"weight": 1.2e-9, "end": None}}},
    "evaluation": {"batch_size": 50},
}


def changed(key, value):
    config = copy.deepcopy(CONFIG)
    *path, last = key.split(".")
    node = config
    for name in path:
        node = node[name]
    node[last] = value
    return config


def begin(folder):
    """What a run leaves once it has begun."""
    (folder / "classifier" / "checkpoints" / "latest" / "0").mkdir(parents=True)


def complaint(folder, config=CONFIG):
    with pytest.raises(InputError) as caught:
        claim(folder, config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_configuration_is_written_where_nothing_was(tmp_path):
    digest = claim(tmp_path / "runs" / "new", CONFIG)
    assert len(digest) == 12 and int(digest, 16) >= 0
    assert json.loads((tmp_path / "runs" / "new" / "config.json").read_text()) == json.loads(json.dumps(CONFIG))


def test_the_same_configuration_goes_on(tmp_path):
    assert claim(tmp_path, CONFIG) == claim(tmp_path, copy.deepcopy(CONFIG))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("seed", 1, "seed: 0 there, 1 now"),
        ("data.size", 128, "data.size: 64 there, 128 now"),
        ("fcam.loss.crf.end", 3, "fcam.loss.crf.end: None there, 3 now"),
        ("model.decoder_widths", (64, 16), "model.decoder_widths: [64, 32] there, [64, 16] now"),
        ("model.init", "v.safetensors", "model.init: w.safetensors there, v.safetensors now"),
        ("model.width", 2, "model.width: absent there, 2 now"),
    ],
)
def test_another_configuration_is_refused_and_the_difference_named(tmp_path, key, value, words):
    claim(tmp_path, CONFIG)
    begin(tmp_path)
    before = (tmp_path / "config.json").read_text()
    assert f"({words})" in complaint(tmp_path, changed(key, value))
    assert (tmp_path / "config.json").read_text() == before


def test_a_folder_in_which_nothing_has_begun_takes_another_configuration(tmp_path):
    claim(tmp_path, CONFIG)
    other = changed("model.init", "v.safetensors")
    claim(tmp_path, other)
    assert json.loads((tmp_path / "config.json").read_text()) == json.loads(json.dumps(other))


def test_all_differences_are_named(tmp_path):
    claim(tmp_path, CONFIG)
    begin(tmp_path)
    other = changed("seed", 1)
    del other["data"]["size"]
    message = complaint(tmp_path, other)
    assert "data.size: 64 there, absent now; seed: 0 there, 1 now" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.root", "/b"),
        ("data.cache_gigabytes", 0.0),
        ("log_steps", 1),
        ("last_stage", "fcam"),
        ("evaluation.batch_size", 8),
    ],
)
def test_what_does_not_alter_the_training_may_change(tmp_path, key, value):
    first = claim(tmp_path, CONFIG)
    begin(tmp_path)
    assert claim(tmp_path, changed(key, value)) != first
    assert json.loads((tmp_path / "config.json").read_text()) == json.loads(json.dumps(changed(key, value)))


@pytest.mark.parametrize("text", [b'{"seed": 0', b"", b"[]", b"\x00\xff"])
def test_a_record_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text)
    begin(tmp_path)
    assert complaint(tmp_path).startswith(f"{tmp_path / 'config.json'} ")


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    occupied = tmp_path / "run"
    occupied.write_text("")
    assert complaint(occupied).startswith(f"workdir={occupied} cannot be used: ")
    assert complaint(occupied / "below").startswith(f"workdir={occupied / 'below'} cannot be used: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    tmp_path.chmod(0o500)
    assert "cannot be used: Permission denied" in complaint(tmp_path)


def test_a_folder_is_for_one_call_at_a_time(tmp_path):
    with workdir.occupied(tmp_path / "run"):
        words = rf"run is in use by another call; .* \(process {os.getpid()} on \S+\)$"
        with pytest.raises(InputError, match=words), workdir.occupied(tmp_path / "run"):
            pass
        with workdir.occupied(tmp_path / "other"):
            pass
    with workdir.occupied(tmp_path / "run"):
        pass


@pytest.mark.parametrize("text", ["", "my thesis\n", "process 1\n"])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_lock_that_is_another_file_is_left_as_it_is(tmp_path, link, text):
    victim = tmp_path / "victim"
    victim.write_text(text)
    (tmp_path / "run").mkdir()
    link(victim, tmp_path / "run" / "lock")
    if link is os.link and not text:
        victim.write_text("more")
    before = victim.read_text()
    words = r"^\S*/run/lock is no lock of this program; delete it, or .*$"
    with pytest.raises(InputError, match=words), workdir.occupied(tmp_path / "run"):
        pass
    assert victim.read_text() == before


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("nowhere")])
def test_a_lock_that_is_no_file_is_told(tmp_path, make):
    make(tmp_path / "lock")
    with pytest.raises(InputError, match="lock"), workdir.occupied(tmp_path):
        pass
    assert not (tmp_path / "nowhere").exists()


def test_a_lock_that_is_held_says_by_whom_in_a_line(tmp_path):
    (tmp_path / "lock").write_text("line\n" * 10**5 + "\x1b[2J")
    with (tmp_path / "lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError) as caught, workdir.occupied(tmp_path):
            pass
    assert len(str(caught.value)) < 1500 and str(caught.value).isprintable()


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, caplog):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with workdir.occupied(tmp_path):
        assert "this file system has no locks (No locks available): start one run at a time" in caplog.text


def test_the_hash_of_a_training_is_of_what_it_depends_on():
    config = {"seed": 0, "train": {"checkpoint_steps": 1000}, "evaluation": {"also": ""}}
    free = {"seed": 0, "train": {"checkpoint_steps": 5}, "evaluation": {"also": "PointingGame"}}
    config["fcam"], free["fcam"] = {"pictures_epochs": 5}, {"pictures_epochs": 0}
    assert workdir.training_hash(config) == workdir.training_hash(free)
    assert workdir.training_hash(config) != workdir.training_hash(config | {"seed": 1})
