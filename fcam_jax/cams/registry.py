"""The CAMs by name. A new one is one file beside this and one line here."""

from collections.abc import Callable

from jaxtyping import Array, Float

from fcam_jax.cams.cam import cam
from fcam_jax.cams.gradcam import gradcam
from fcam_jax.cams.layercam import layercam
from fcam_jax.cams.xgradcam import xgradcam

Cam = Callable[..., Float[Array, "b h w"]]

CAMS: dict[str, Cam] = {"cam": cam, "gradcam": gradcam, "xgradcam": xgradcam, "layercam": layercam}
