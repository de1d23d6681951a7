"""The CAMs by name. A new one is a class and one line here."""

from collections.abc import Mapping
from typing import Any

from fcam_jax.cams.channels import ISCAM, SSCAM, AblationCAM, ScoreCAM
from fcam_jax.cams.contract import ActivationMap
from fcam_jax.cams.eigencam import EigenCAM
from fcam_jax.cams.gradients import (
    CAM,
    ElementwiseGradCAM,
    GradCAM,
    GradCAMPP,
    HiResCAM,
    LayerCAM,
    SmoothGradCAMPP,
    XGradCAM,
)
from fcam_jax.component import Registry, defaults_of
from fcam_jax.errors import unknown_name

CAMS: Registry[type[ActivationMap]] = Registry(
    "CAM",
    {
        "cam": CAM,
        "gradcam": GradCAM,
        "gradcampp": GradCAMPP,
        "smooth_gradcampp": SmoothGradCAMPP,
        "xgradcam": XGradCAM,
        "layercam": LayerCAM,
        "hirescam": HiResCAM,
        "elementwise": ElementwiseGradCAM,
        "scorecam": ScoreCAM,
        "sscam": SSCAM,
        "iscam": ISCAM,
        "ablationcam": AblationCAM,
        "eigencam": EigenCAM,
    },
)


def with_settings(name: str, settings: Mapping[str, Any]) -> ActivationMap:
    """A CAM by its name, with those of its settings that differ from the defaults, or all.

    Raises:
      InputError: there is no such CAM or setting, or a setting is outside its range.
    """
    there = defaults_of(CAMS[name])
    if unknown := sorted(settings.keys() - there):
        raise unknown_name(f"setting of the CAM {name!r}:", unknown[0], there or ["none"])
    return CAMS[name](**settings)
