"""The CAMs by name. A new one is one file beside this and one line here."""

from collections.abc import Mapping
from typing import Any

from fcam_jax.cams.ablationcam import AblationCAM
from fcam_jax.cams.cam import CAM
from fcam_jax.cams.contract import ActivationMap
from fcam_jax.cams.eigencam import EigenCAM
from fcam_jax.cams.elementwise import ElementwiseGradCAM
from fcam_jax.cams.gradcam import GradCAM
from fcam_jax.cams.gradcampp import GradCAMPP
from fcam_jax.cams.hirescam import HiResCAM
from fcam_jax.cams.iscam import ISCAM
from fcam_jax.cams.layercam import LayerCAM
from fcam_jax.cams.scorecam import ScoreCAM
from fcam_jax.cams.smooth_gradcampp import SmoothGradCAMPP
from fcam_jax.cams.sscam import SSCAM
from fcam_jax.cams.xgradcam import XGradCAM
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
    """A CAM by its name, with settings by theirs.

    Args:
      name: of the CAM.
      settings: those that differ from the defaults, or all.

    Raises:
      InputError: there is no such CAM or setting, or a setting is outside its range.
    """
    there = defaults_of(CAMS[name])
    if unknown := sorted(settings.keys() - there):
        raise unknown_name(f"setting of the CAM {name!r}:", unknown[0], there or ["none"])
    return CAMS[name](**settings)
