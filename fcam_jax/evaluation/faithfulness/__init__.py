"""How well a map explains a network: figures that ask the network itself, for any network and any maps.

They judge whether a map shows what the network looks at, not whether it covers the object; for that there are boxes and
masks (`fc.evaluate`). All give a number for each image.
"""

from fcam_jax.evaluation.faithfulness.curves import area, deletion, deletion_curve, insertion, insertion_curve
from fcam_jax.evaluation.faithfulness.imputation import impute
from fcam_jax.evaluation.faithfulness.masking import adcc, confidence
from fcam_jax.evaluation.faithfulness.randomization import randomization, shuffled
from fcam_jax.evaluation.faithfulness.road import road, road_curve
from fcam_jax.evaluation.faithfulness.sensitivity import sensitivity
from fcam_jax.evaluation.faithfulness.similarity import pearson, spearman, ssim

__all__ = [
    "adcc",
    "area",
    "confidence",
    "deletion",
    "deletion_curve",
    "impute",
    "insertion",
    "insertion_curve",
    "pearson",
    "randomization",
    "road",
    "road_curve",
    "sensitivity",
    "shuffled",
    "spearman",
    "ssim",
]
