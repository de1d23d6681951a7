"""From a configuration to the classes that labels are numbered by, where something else than the data says so."""

import pathlib

from ml_collections import ConfigDict

from fcam_jax.configuration.settings import INIT_HEAD
from fcam_jax.data.classes import ClassNames, described, differing
from fcam_jax.errors import InputError
from fcam_jax.models.weights_by_name import is_name
from fcam_jax.runs.build_model import method
from fcam_jax.runs.class_names import CLASS_NAMES, names_from_file, names_given
from fcam_jax.runs.classifiers import classes_of


def label_space(config: ConfigDict, of_run: ClassNames | None) -> ClassNames | None:
    """The classes of the run, once it has begun, of the classifier that it takes over, or of the user's list, in this
    order; None where the data alone says it, and for a way to train stage 1 that knows no classes.

    Raises:
      InputError: two of them have different names; the list cannot be read.
    """
    if not method(config.classifier).has_classes:
        return None
    given = names_given(config.data.classes)
    taken, what = (of_run, "the run") if of_run is not None else (_taken_over(config), "the classifier that is taken")
    if given is not None and config.data.num_classes not in (0, len(given)):
        raise InputError(f"data.num_classes is {config.data.num_classes}, but data.classes has {described(given)}")
    if given is not None and taken is not None and (differing(given, taken) or len(given) != len(taken)):
        raise InputError(f"data.classes has {described(given)}, but {what} has {described(taken)}")
    return taken if given is None else given


def check_same(of_run: ClassNames, of_data: ClassNames) -> None:
    """Refuse to go on with a run on data of other classes than it began with, where both have names."""
    of_run, of_data = (sorted(filter(None, names)) for names in (of_run, of_data))
    if differing(of_run, of_data):
        raise InputError(
            f"the run was begun with the classes {described(of_run)}, the data has {described(of_data)}; train on "
            "the same classes, or in another folder (fcam eval takes data that has some of them)"
        )


def _taken_over(config: ConfigDict) -> ClassNames | None:
    """The classes of another run's classifier, or names beside a weight file whose classification layer is kept."""
    if config.classifier.from_run:
        return classes_of(pathlib.Path(config.classifier.from_run), "classifier.from_run")
    model = config.model
    if not model.init or not INIT_HEAD[model.init_head] or is_name(model.init):
        return None
    init = pathlib.Path(model.init)
    path = (init if init.is_dir() else init.parent) / CLASS_NAMES
    return names_from_file(path) if path.is_file() else None
