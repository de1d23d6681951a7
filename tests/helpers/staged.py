"""Stages trained and evaluated in a folder by its path, which is opened for each call as the program does."""

from configs import synthetic
from fcam_jax.configuration import override
from fcam_jax.runs import build, experiment, folder, stage_evaluation
from fcam_jax.runs.folder import RunFolder

SIDE, CLASSES = 32, 8
UNTRAINED = {
    "data.size": SIDE,
    "data.resize": 36,
    "data.batch_size": 8,
    "data.synthetic.train": 8,
    "data.synthetic.val": 4,
    "data.synthetic.test": 4,
    "model.decoder_widths": (8, 8, 4, 4),
    "classifier.epochs": 0,
    "fcam.epochs": 0,
    "fcam.pictures_epochs": 0,
    "evaluation.batch_size": 4,
    "validation.threshold_step": 0.1,
}


def untrained_run(path):
    """A run of both stages with the weights that they begin with, for images of `SIDE` and `CLASSES` classes."""
    config = synthetic.get_config()
    override(config, UNTRAINED)
    folder.claim(path, config.to_dict())
    train_stages(build.experiment(config), path)
    return path


def train_stages(plan, path, training_hash=""):
    with RunFolder(path, training=True) as run:
        experiment.train_stages(plan, run, training_hash)


def evaluate_stages(plan, path, config_hash, split="test"):
    with RunFolder(path) as run:
        return stage_evaluation.evaluate_stages(plan, run, config_hash, split)


def trained_model(stage, model, path):
    with RunFolder(path) as run:
        return run.stage(stage.name).trained(model, stage.method)
