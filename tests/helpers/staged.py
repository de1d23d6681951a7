"""Stages trained and evaluated in a folder by its path, which is opened for each call as the program does."""

from fcam_jax.runs import experiment, stage_evaluation
from fcam_jax.runs.folder import RunFolder


def train_stages(plan, path, training_hash=""):
    with RunFolder(path, training=True) as run:
        experiment.train_stages(plan, run, training_hash)


def evaluate_stages(plan, path, config_hash, split="test"):
    with RunFolder(path) as run:
        return stage_evaluation.evaluate_stages(plan, run, config_hash, split)


def trained_model(stage, model, path):
    with RunFolder(path) as run:
        return run.stage(stage.name).trained(model, stage.method)
