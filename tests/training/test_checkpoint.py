"""Checkpoints on disk: damaged ones are named and never restored; what cannot be written is told in one line."""

import errno
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fcam_jax.errors import InputError
from fcam_jax.training import manifest
from fcam_jax.training.checkpoint import Checkpoints, Progress
from fcam_jax.training.checkpoint_folder import CheckpointFolder
from fcam_jax.training.step import TrainState


def state(step):
    """A state whose every number tells its step."""
    value = float(step)
    return TrainState(
        jnp.asarray(step, jnp.int32),
        {"w": jnp.full((20, 30), value)},
        {"b": jnp.full(5, value)},
        {"m": jnp.full(7, value)},
    )


def save(directory, *steps, best=None, **owner):
    """Save these steps, of which each is the best until then, unless another is said to be."""
    checkpoints = Checkpoints(directory, training=True, **owner)
    for step in steps:
        if best is None or step <= best:
            checkpoints.save_best(state(step), {"value": 10.0 * step})
        named = step if best is None else min(step, best)
        checkpoints.save(
            state(step), Progress(step, {"i": step}, "abc", step, named, 10.0 * named, {"value": 10.0 * named})
        )
    checkpoints.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Checkpoints of the steps 3 and 6."""
    directory = tmp_path_factory.mktemp("two")
    save(directory, 3, 6)
    return directory


def files_of(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGE = {"truncated": truncate, "flipped": flip, "removed": pathlib.Path.unlink}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_whatever_is_damaged_of_a_checkpoint_it_is_named_and_never_restored(two, tmp_path, caplog, damage):
    names = files_of(two / "latest" / "6")
    assert len(names) > 8 and pathlib.Path(manifest.NAME) in names
    for name in names:
        victim = tmp_path / str(names.index(name))
        shutil.copytree(two, victim)
        damage(victim / "latest" / "6" / name)
        caplog.clear()
        checkpoints = Checkpoints(victim)
        progress, restored = checkpoints.progress(), checkpoints.restore(state(0))
        checkpoints.close()
        # Two files that Orbax adds at the last say nothing of what is restored.
        step = 6 if name.name in ("_CHECKPOINT_METADATA", "commit_success.txt") and len(name.parts) == 1 else 3
        assert progress == Progress(step, {"i": step}, "abc", step, step, 10.0 * step, {"value": 10.0 * step})
        np.testing.assert_array_equal(restored.params["w"], np.full((20, 30), step))
        assert (step == 6) == ("6 is left out" not in caplog.text)
        assert step == 6 or str(name) in caplog.text
        assert (victim / "latest" / "6").is_dir()  # a reader moves nothing


def test_several_processes_write_one_checkpoint_at_a_time(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, training=True)
    writing, beside = set(), []

    def begin(folder, *_):
        beside.append(writing - {folder.path})
        writing.add(folder.path)

    monkeypatch.setattr(CheckpointFolder, "save", begin)
    monkeypatch.setattr(CheckpointFolder, "wait", lambda folder: writing.discard(folder.path))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for step in (1, 2):
        checkpoints.save_sound(state(step))
        checkpoints.save_best(state(step), {})
        checkpoints.save(state(step), Progress(step, {}))
    assert beside == [set()] * 6


def test_training_moves_damaged_checkpoints_aside_and_goes_on(two, tmp_path, caplog):
    shutil.copytree(two, tmp_path / "run")
    flip(next((tmp_path / "run" / "latest" / "6" / "state" / "d").iterdir()))
    (tmp_path / "run" / "latest" / "9.orbax-checkpoint-tmp").mkdir()
    save(tmp_path / "run", 6, 9)
    assert "6 is left out: state/d/" in caplog.text
    assert {path.name for path in (tmp_path / "run" / "latest").iterdir()} == {"6", "6.damaged", "9"}
    checkpoints = Checkpoints(tmp_path / "run")
    assert int(checkpoints.restore(state(0)).step) == 9
    checkpoints.close()


def test_what_a_crash_has_left_half_removed_is_no_damage(two, tmp_path, caplog):
    shutil.copytree(two, tmp_path / "run")
    obsolete = tmp_path / "run" / "latest" / "0"
    shutil.copytree(tmp_path / "run" / "latest" / "3", obsolete)
    (obsolete / manifest.NAME).unlink()
    checkpoints = Checkpoints(tmp_path / "run", training=True)
    assert checkpoints.progress().step == 6
    checkpoints.close()
    assert "left out" not in caplog.text
    assert {path.name for path in (tmp_path / "run" / "latest").iterdir()} == {"3", "6"}


def test_where_nothing_is_sound_nothing_is_touched(two, tmp_path):
    shutil.copytree(two, tmp_path / "run")
    for step in ("3", "6"):
        (tmp_path / "run" / "latest" / step / manifest.NAME).unlink()
    before = files_of(tmp_path / "run")
    checkpoints = Checkpoints(tmp_path / "run", training=True)
    with pytest.raises(
        InputError, match=r"^none of the checkpoints in \S*/run/latest is sound; delete \S*/run to train"
    ):
        checkpoints.progress()
    checkpoints.close()
    assert files_of(tmp_path / "run") == before


def model(directory, owner=None, **asked):
    checkpoints = Checkpoints(directory, **owner or {})
    try:
        params, _, record = checkpoints.restore_model(state(0).params, state(0).rest, **asked)
        return float(params["w"][0, 0]), record
    finally:
        checkpoints.close()


def lose_best(directory, *steps):
    for step in steps:
        flip(next((directory / "best" / str(step) / "model" / "d").iterdir()))


@pytest.mark.parametrize("text", ["", "null", "{}", "[" * 10_000])
def test_a_broken_newest_state_does_not_give_a_reader_an_older_best_model(two, tmp_path, text):
    shutil.copytree(two, tmp_path / "run")
    (tmp_path / "run/latest/6" / manifest.NAME).write_text(text)
    assert model(tmp_path / "run") == (6.0, {"step": 6, "val": {"value": 60.0}})


def test_a_lost_best_model_is_the_same_one_of_the_latest_checkpoint(two, tmp_path):
    shutil.copytree(two, tmp_path / "run")
    lose_best(tmp_path / "run", 6)
    assert model(tmp_path / "run") == (6.0, {"step": 6, "val": {"value": 60.0}})
    checkpoints = Checkpoints(tmp_path / "run", training=True)
    progress = checkpoints.progress()
    assert checkpoints.mend_best(progress, state(0), "value") == progress
    checkpoints.close()
    assert model(tmp_path / "run", step=6) == (6.0, {"step": 6, "val": {"value": 60.0}})


def test_another_best_model_in_place_of_a_lost_one_is_told_and_recorded(tmp_path, caplog):
    save(tmp_path, 1, 3, 6, 9, best=3)
    lose_best(tmp_path, 3)
    older = (1.0, {"step": 1, "val": {"value": 10.0}, "instead_of": 3})
    assert model(tmp_path) == older
    assert "the best model, of step 3, is lost; the best one before it, of step 1, takes its place" in caplog.text
    checkpoints = Checkpoints(tmp_path, training=True)
    mended = checkpoints.mend_best(checkpoints.progress(), state(0), "value")
    assert (mended.best_step, mended.best_value, mended.instead_of) == (1, 10.0, 3)
    checkpoints.save(state(12), mended.__class__(**{**vars(mended), "step": 12}))
    checkpoints.close()
    assert model(tmp_path) == older
    lose_best(tmp_path, 1)
    with pytest.raises(InputError, match="of step 1, is damaged or missing, and so is the one before it; delete"):
        model(tmp_path)


def test_a_damaged_checkpoint_that_was_asked_for_by_its_step_is_refused(two, tmp_path):
    shutil.copytree(two, tmp_path / "run")
    lose_best(tmp_path / "run", 6)
    with pytest.raises(InputError, match=r"best/6 cannot be used \(model/d/\S+ has other .*\); give \S*/best instead"):
        model(tmp_path / "run", step=6)
    with pytest.raises(InputError, match=r"no checkpoint of step 7 in \S*/latest; there: 3, 6"):
        model(tmp_path / "run", kind="latest", step=7)


def test_what_a_checkpoint_says_can_be_amended(tmp_path):
    checkpoints = Checkpoints(tmp_path, training=True)
    checkpoints.save(state(4), Progress(4, 0))
    checkpoints.amend(Progress(4, 0, validated=4, best_step=4))
    checkpoints.close()
    manifest.verify(tmp_path / "latest" / "4", {"run": "", "stage": "", "kind": "latest", "step": 4})
    again = Checkpoints(tmp_path)
    assert again.progress() == Progress(4, 0, validated=4, best_step=4)


def full(*args, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("owner", "name"),
    [(manifest, "write"), (ocp.PyTreeCheckpointHandler, "async_save")],
    ids=["in Orbax's thread", ""],
)
def test_a_full_disk_is_told_in_one_line_and_loses_nothing(two, tmp_path, monkeypatch, owner, name):
    shutil.copytree(two, tmp_path / "run")
    checkpoints = Checkpoints(tmp_path / "run", training=True)
    assert checkpoints.progress().step == 6
    words = r"^checkpoints in \S*/latest cannot be written \(No space left on device\); once .* from the newest one$"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        with pytest.raises(InputError, match=words):
            checkpoints.save(state(9), Progress(9, 0))
            checkpoints.close()
    assert model(tmp_path / "run", kind="latest")[1]["step"] == 6
    save(tmp_path / "run", 9)
    assert model(tmp_path / "run", kind="latest")[0] == 9.0


def test_a_manifest_is_no_stronger_than_its_own_checksum(two, tmp_path):
    shutil.copytree(two / "latest" / "6", tmp_path / "6")
    place = {"run": "", "stage": "", "kind": "latest", "step": 6}
    manifest.verify(tmp_path / "6", place)
    contents = json.loads((tmp_path / "6" / manifest.NAME).read_text())
    contents["facts"]["step"] = 7
    (tmp_path / "6" / manifest.NAME).write_text(json.dumps(contents))
    with pytest.raises(manifest.DamagedError, match=r"manifest\.json has other contents"):
        manifest.verify(tmp_path / "6", place)


A, B = ({"run": run, "stage": "fcam"} for run in ("aaaa", "bbbb"))


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    """Checkpoints of the steps 3 and 6 of two runs, and of another stage of the first."""
    directory = tmp_path_factory.mktemp("placed")
    for name, owner in (("a", A), ("b", B), ("a/classifier", {**A, "stage": "classifier"})):
        save(directory / name, 3, 6, **owner)
    return directory


def exchange(one, other):
    one.rename(one.with_name("aside"))
    other.rename(one)
    one.with_name("aside").rename(other)


def put(source, target):
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


# What is done to the folder of the runs; what is told of it, of which checkpoint; and the step that is gone on from.
EXCHANGES = {
    "two best models exchanged": (
        lambda runs: exchange(runs / "a/best/3", runs / "a/best/6"),
        "best/6 is left out: it is another one, which was put there: of step 3, not 6",
        6,
    ),
    "an older best model under the name of the newest": (
        lambda runs: put(runs / "a/best/3", runs / "a/best/6"),
        "best/6 is left out: it is another one, which was put there: of step 3, not 6",
        6,
    ),
    "an older state under the name of a newer": (
        lambda runs: put(runs / "a/latest/3", runs / "a/latest/9"),
        "latest/9 is left out: it is another one, which was put there: of step 3, not 9",
        6,
    ),
    "two states exchanged": (
        lambda runs: exchange(runs / "a/latest/3", runs / "a/latest/6"),
        "latest/3 is left out: it is another one, which was put there: of step 6, not 3",
        None,
    ),
    "the best model of another run": (
        lambda runs: put(runs / "b/best/6", runs / "a/best/6"),
        "best/6 is left out: it is another one, which was put there: of run bbbb, not aaaa",
        6,
    ),
    "all of another run": (
        lambda runs: [put(runs / f"b/{kind}", runs / f"a/{kind}") for kind in ("best", "latest")],
        "latest/6 is left out: it is another one, which was put there: of run bbbb, not aaaa",
        None,
    ),
    "the best model of another stage": (
        lambda runs: put(runs / "a/classifier/best/6", runs / "a/best/6"),
        "best/6 is left out: it is another one, which was put there: of stage classifier, not fcam",
        6,
    ),
    "a best model as the state": (
        lambda runs: put(runs / "a/best/6", runs / "a/latest/6"),
        "latest/6 is left out: it is another one, which was put there: of kind best, not latest",
        3,
    ),
}


@pytest.mark.parametrize(("how", "told", "step"), EXCHANGES.values(), ids=EXCHANGES)
@pytest.mark.parametrize("training", [False, True])
def test_a_checkpoint_counts_only_where_it_belongs(placed, tmp_path, caplog, how, told, step, training):
    runs = tmp_path / "runs"
    shutil.copytree(placed, runs)
    how(runs)
    checkpoints = Checkpoints(runs / "a", training=training, **A)
    if step is None:
        with pytest.raises(InputError, match=r"none of the checkpoints in \S* is sound; delete"):
            checkpoints.progress()
    else:
        progress = checkpoints.progress()
        params, _, record = checkpoints.restore_model(state(0).params, state(0).rest)
        # Who goes on does so from the older state; who only reads gets the best model, which is sound.
        best = 6 if told.startswith("latest/6") and not training else step
        assert progress.step == step and record["step"] == float(params["w"][0, 0]) == best
        assert record["val"] == {"value": 10.0 * best}
    checkpoints.close()
    assert told in caplog.text
    if training or "states" in told:
        return
    kind, asked, *_ = told.partition(" ")[0].split("/")
    with pytest.raises(InputError, match=r"cannot be used \(it is another one, which was put there: "):
        model(runs / "a", kind=kind, step=int(asked), owner=A)


def test_checkpoints_that_are_older_than_places_know_their_step(two, tmp_path):
    shutil.copytree(two, tmp_path / "run")
    for folder in (tmp_path / "run").glob("*/[36]"):
        contents = json.loads((folder / manifest.NAME).read_text())
        del contents["place"], contents["sha256"]
        (folder / manifest.NAME).write_text(json.dumps(contents | {"sha256": manifest._sum(contents)}))
    assert model(tmp_path / "run")[1]["step"] == 6
    exchange(tmp_path / "run/best/3", tmp_path / "run/best/6")
    assert model(tmp_path / "run", owner={"stage": "fcam"})[0] == 6.0
    with pytest.raises(InputError, match="none of the checkpoints"):
        model(tmp_path / "run", owner=A)  # begun by a version that writes places


@pytest.mark.parametrize("spoil", [shutil.rmtree, lambda path: (shutil.rmtree(path), path.write_text("")), None])
def test_a_stage_with_best_models_and_nothing_to_go_on_from_is_not_begun_anew(placed, tmp_path, spoil):
    shutil.copytree(placed / "a", tmp_path / "a")
    if spoil is None:
        shutil.rmtree(tmp_path / "a/latest")
        (tmp_path / "a/latest").symlink_to("nowhere")
    else:
        spoil(tmp_path / "a/latest")
    checkpoints = Checkpoints(tmp_path / "a", training=True, **A)
    with pytest.raises(InputError, match=r"none of the checkpoints in \S*/a/latest is sound; delete \S*/a to train"):
        checkpoints.progress()
    checkpoints.close()


@pytest.mark.parametrize("name", ["²", "٣", "007", "9.damaged", "9" * 200, "9x", "１２"])
def test_folders_that_are_no_steps_do_not_count(two, tmp_path, name):
    shutil.copytree(two, tmp_path / "run")
    for kind in ("best", "latest"):
        (tmp_path / "run" / kind / name).mkdir()
    save(tmp_path / "run", 9)
    assert model(tmp_path / "run") == (9.0, {"step": 9, "val": {"value": 90.0}})


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 10**6, '{"facts":' * 10**5, "[]", "7", "", "\0" * 100, "\xff", '"\\ud800"'),
        *('{"facts": 1, "files": [], "sha256": ""}', '{"facts": {}, "files": {}, "sha256": 1e999}'),
        '{"facts": {"step": ' + "9" * 5000 + "}}",
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_a_manifest_that_is_no_record_is_damage(two, tmp_path, caplog, text):
    shutil.copytree(two, tmp_path / "run")
    (tmp_path / "run/latest/6" / manifest.NAME).write_bytes(text.encode("latin-1"))
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.progress().step == 3
    checkpoints.close()
    assert "6 is left out: manifest.json has other contents than were written" in caplog.text
