"""The CAMs by name, and their settings. A new one is one file beside this and one line here.

A CAM's settings are its keyword arguments, and their defaults are those of the function; the configuration takes them
from here.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Array, Float

from fcam_jax.cams.ablationcam import ablationcam
from fcam_jax.cams.cam import cam
from fcam_jax.cams.contract import Cam
from fcam_jax.cams.eigencam import eigencam
from fcam_jax.cams.elementwise import elementwise
from fcam_jax.cams.fusion import fused_cam
from fcam_jax.cams.gradcam import gradcam
from fcam_jax.cams.gradcampp import VARIANTS, gradcampp
from fcam_jax.cams.hirescam import hirescam
from fcam_jax.cams.iscam import iscam
from fcam_jax.cams.layercam import layercam
from fcam_jax.cams.scorecam import scorecam
from fcam_jax.cams.smooth_gradcampp import smooth_gradcampp
from fcam_jax.cams.sscam import sscam
from fcam_jax.cams.xgradcam import xgradcam
from fcam_jax.component import Registry
from fcam_jax.errors import InputError, unknown_name

CAMS: Registry[Callable[..., Float[Array, "b h w"]]] = Registry(
    "CAM",
    {
        "cam": cam,
        "gradcam": gradcam,
        "gradcampp": gradcampp,
        "smooth_gradcampp": smooth_gradcampp,
        "xgradcam": xgradcam,
        "layercam": layercam,
        "hirescam": hirescam,
        "elementwise": elementwise,
        "scorecam": scorecam,
        "sscam": sscam,
        "iscam": iscam,
        "ablationcam": ablationcam,
        "eigencam": eigencam,
    },
)

# A setting means the same to every CAM that has it.
_LEAST = {"samples": 1, "chunk": 1, "std": 0}
_TOP_ALONE = ("cam",)  # what is a map of the head


def default_settings(name: str) -> dict[str, Any]:
    """The settings of a CAM and their defaults."""
    parameters = inspect.signature(CAMS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def bind(name: str, settings: Mapping[str, Any], stages: Sequence[str], count: int) -> Cam:
    """A CAM with its settings, of the top stage or of several that are fused.

    Args:
      name: of the CAM.
      settings: those that differ from the defaults, or all.
      stages: names of the stages, "stage1" for the highest resolution and so on; none for the top one.
      count: stages that the network has.

    Raises:
      InputError: there is no such CAM, setting or stage, or a setting is outside its range.
    """
    if name not in CAMS:
        raise unknown_name("CAM", name, CAMS)
    for setting, value in settings.items():
        _check_setting(name, setting, value)
    return functools.partial(
        fused_cam, cam=functools.partial(CAMS[name], **settings), stages=_positions(name, stages, count)
    )


def _check_setting(name: str, setting: str, value: Any) -> None:
    known = default_settings(name)
    if setting not in known:
        raise unknown_name(f"setting of the CAM {name!r}:", setting, known or ["none"])
    if setting == "variant" and value not in VARIANTS:
        raise unknown_name(f"cam.{name}.variant", value, VARIANTS)
    if setting in _LEAST and value < _LEAST[setting]:
        raise InputError(f"cam.{name}.{setting} is {value}; it must be at least {_LEAST[setting]}")


def _positions(name: str, stages: Sequence[str], count: int) -> tuple[int, ...]:
    names = [f"stage{number}" for number in range(1, count + 1)]
    unknown = [stage for stage in stages if stage not in names]
    if unknown:
        raise unknown_name("cam.stages", unknown[0], names)
    if name in _TOP_ALONE and any(stage != names[-1] for stage in stages):
        raise InputError(f"the CAM {name!r} is the head's own map: it takes {names[-1]}, the top stage, alone")
    return tuple(sorted({names.index(stage) for stage in stages})) or (count - 1,)
