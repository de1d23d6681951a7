"""From score maps to figures: boxes of a map at every threshold, the metrics, and the evaluator.

This is the protocol of Choe et al. (Evaluating Weakly Supervised Object Localization Methods Right, CVPR 2020). Nothing
that is imported here loads JAX.
"""

from fcam_jax.evaluation.arrays import evaluate_arrays
from fcam_jax.evaluation.metric import Figure, Metric, Scored
from fcam_jax.evaluation.metrics import METRICS
from fcam_jax.evaluation.result import Evaluation

__all__ = ["METRICS", "Evaluation", "Figure", "Metric", "Scored", "evaluate_arrays"]
