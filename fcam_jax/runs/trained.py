"""A trained model by the path of its checkpoint, for evaluation and for a user's own images.

In: the folder of a run, of one of its stages, or of one checkpoint. Out: the model with its weights, how it localizes,
and the configuration that it was trained with. No data is needed.
"""

import dataclasses
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.runs import build, folder
from fcam_jax.runs.class_names import ClassNames, names_of_run, save_names
from fcam_jax.runs.folder import RunFolder
from fcam_jax.runs.plan import Stage
from fcam_jax.runs.stage_evaluation import described, evaluate_model, write_results
from fcam_jax.training.checkpoint import BEST, CHECKPOINTS, LATEST
from fcam_jax.training.checkpoint_folder import STEP
from fcam_jax.training.metric_log import logged


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model as a checkpoint holds it.

    Attributes:
      stage: what was trained; its method localizes.
      model: a `Classifier`, or an `FCAM` with its classifier.
      record: "step", and in "val" the validation figures of that step, as far as they are known.
      config: the recorded configuration of the run.
      run: the run's folder.
      kind: "best" or "latest".
    """

    stage: Stage
    model: nnx.Module
    record: dict[str, Any]
    config: dict[str, Any]
    run: pathlib.Path
    kind: str

    @property
    def classes(self) -> ClassNames:
        """What its scores are called."""
        way = getattr(self.stage.method, "training", None)
        own = None if way is None else way.class_names()
        return names_of_run(self.run, self.config["data"]["num_classes"]) if own is None else own

    @property
    def name(self) -> str:
        """The checkpoint in a word, such as "fcam_best_120"."""
        return f"{self.stage.name}_{self.kind}_{self.record['step']}"


def load_trained(path: pathlib.Path) -> Trained:
    """Load the model of a checkpoint.

    Args:
      path: a run's folder (its last trained stage), a stage's folder in it, `<stage>/checkpoints/best` or `latest`
        there, or the folder of one step in these. What is not said is the best checkpoint.

    Raises:
      InputError: when it is none of these, or the checkpoint cannot be used.
    """
    found = run_of(path)
    config = folder.recorded(found)
    stages = build.recorded_stages(config)
    with RunFolder(found) as run:
        stage, kind, step = _meant(path, run, stages)
        before: Any = None
        with build.of_this_version():
            for earlier in stages[: stages.index(stage)]:
                before = earlier.shapes(before)
            shapes = stage.shapes(before)
        model, record = run.stage(stage.name).trained(shapes, stage.method, kind, step)
    val = record["val"] or logged(found / stage.name, "val").get(record["step"], {})
    return Trained(stage, model, {**record, "val": val}, config, found, kind)


def evaluate_checkpoint(
    path: pathlib.Path,
    config: Mapping[str, Any] | None = None,
    out: pathlib.Path | None = None,
    split: str = "test",
    values: Mapping[str, Any] | None = None,
) -> str:
    """Evaluate the model of a checkpoint, and the baselines on it; write results, records for the report and pictures.
    Returns the table of results, for people.

    Args:
      path: as for `load_trained`.
      config: nested settings, whose data and evaluation settings to use; by default those that the run records. The
        labels of the data are numbered as the model's, by the classes' names.
      out: the folder to write to; by default one in the run's folder, by the checkpoint's name and the split.
      values: of data and evaluation, by key, that replace those of the run, where `config` is not given.

    Raises:
      InputError: as `load_trained`; for bad data; when `out` holds another run.
    """
    trained = load_trained(path)
    if config is None and values:
        if strange := [key for key in values if not key.startswith(("data.", "evaluation."))]:
            raise InputError(f"--config.{strange[0]}: of a run, data and evaluation alone can be given other values")
        config = build.changed(trained.config, values)
    config = trained.config if config is None else _with_data(trained.config, config)
    plan = build.recorded_experiment(config, trained.classes, split)
    out = out or trained.run / (trained.name if split == "test" else f"{trained.name}_{split}")
    if any(out.glob(f"*/{CHECKPOINTS}")):
        raise InputError(f"workdir={out} holds a run, whose results these would replace; give another folder")
    config_hash = folder.claim(out, config)
    save_names(out, plan.data.class_names)
    plan.data.tell()
    started = time.monotonic()
    evaluations = evaluate_model(plan, trained.stage, trained.model, trained.record, split)
    facts = {
        "checkpoints": {trained.stage.row: described(trained.stage, trained.record, kind=trained.kind)},
        "config_hash": config_hash,
        "evaluation_seconds": round(time.monotonic() - started, 1),
    }
    return write_results(plan, out, evaluations, facts, split)


def _with_data(config: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a run with data and evaluation of another one."""
    data = {**other["data"], "num_classes": config["data"]["num_classes"]}
    components = sorted({*config["components"], *other["components"]})
    return {**config, "data": data, "evaluation": other["evaluation"], "components": components}


def run_of(path: pathlib.Path) -> pathlib.Path:
    """The nearest folder upwards that holds a run; raises an `InputError` where there is none."""
    if not path.exists():
        raise InputError(f"{path}: no such folder")
    for there in (path, *path.resolve().parents):
        if (there / "config.json").is_file():
            return there
    raise InputError(f"{path} is no run, stage or checkpoint of this program: no config.json in or above it")


def _meant(path: pathlib.Path, run: RunFolder, stages: tuple[Stage, ...]) -> tuple[Stage, str, int | None]:
    """Stage, kind and step of the checkpoint that a path in a run's folder means."""
    by_name = {stage.name: stage for stage in stages}
    parts = path.resolve().relative_to(run.path.resolve()).parts
    if not parts:
        last = run.last_trained(list(by_name))
        if last is None:
            raise InputError(f"{path}: nothing is trained in this run yet")
        return by_name[last], BEST, None
    name, *rest = parts
    within, kind, step = (*rest, *(CHECKPOINTS, BEST, "")[len(rest) :])[:3]
    known = name in by_name and within == CHECKPOINTS and kind in (BEST, LATEST) and (STEP.fullmatch(step) or not step)
    if not known or len(rest) > 3:
        names = " or ".join(f"{run.path / name}" for name in by_name)
        raise InputError(
            f"{path} is no checkpoint; give {run.path}, {names}, or there {CHECKPOINTS}/{BEST}, "
            f"{CHECKPOINTS}/{LATEST}, or the folder of a step in these"
        )
    if run.stage(name).progress is None:
        raise InputError(f"{path}: the stage {name} is not trained in this run yet")
    return by_name[name], kind, int(step) if step else None
