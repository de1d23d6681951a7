"""Which figure chooses a stage's best model, settled before anything is trained; and what is asked for by name."""

import dataclasses
import logging

from fcam_jax.data.source import TRUTH, Source
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.evaluation.metrics import METRICS, measurable, selecting, tie_breaker
from fcam_jax.evaluation.settings import EvaluationSettings
from fcam_jax.methods.classifier import ClassifierMethod
from fcam_jax.methods.contract import LAST
from fcam_jax.runs.plan import Stage

logger = logging.getLogger(__name__)


def selected(stage: Stage, val: Source | None) -> Stage:
    """The stage with the figure that chooses its best model: the one asked for, or the first choice of those that the
    validation split gives; and the one that breaks its ties. A decoder alone leaves the classes as they are, which then
    break none. They say nothing of it, so its last model counts where nothing else is known.

    Raises:
      InputError: the validation split does not give the figure that is asked for.
    """
    asked, all_figures = stage.loop.selection, measurable(TRUTH, True)
    if asked == LAST:
        return stage
    if asked and asked not in all_figures:
        raise unknown_name("config.validation.selection", asked, [*all_figures, LAST])
    classes = isinstance(stage.method, ClassifierMethod) and stage.method.training.has_classes
    there = [] if val is None else measurable(val.truth, classes)
    what = "there is no val split" if val is None else f"the val split has {_has(val)}"
    first = asked or selecting()[0]
    if not classes and asked not in measurable(TRUTH, False):  # of classes, and so of another stage
        asked = ""
    if asked and asked not in there:
        others = f"it gives {', '.join(there)}" if there else f"take {LAST!r}"
        raise InputError(
            f"config.validation.selection={asked} cannot choose the best {stage.name}: {what}; {others}, or leave it "
            "empty for what suits it"
        )
    by = asked or next((name for name in selecting() if name in there), LAST)
    if by != first:
        logger.warning("%s: %s, so the best model is chosen by %s", stage.name, what, by)
    ties = "" if by == LAST else tie_breaker(by)
    return dataclasses.replace(stage, loop=dataclasses.replace(stage.loop, selection=by, ties=ties))


def check_asked_for(evaluation: EvaluationSettings, source: Source, what: str) -> None:
    """Refuse a metric that is asked for by name and needs other ground truth than there is."""
    for name in evaluation.names:
        needs = METRICS[name].needs if name in METRICS else ()
        if needs and not set(needs) & set(source.truth):
            raise InputError(
                f"evaluation.also names {name}, which needs {' or '.join(needs)}; {what} has {_has(source)}"
            )


def _has(source: Source) -> str:
    return " and ".join("masks" if one == "mask" else one for one in source.truth) or "neither boxes nor masks"
