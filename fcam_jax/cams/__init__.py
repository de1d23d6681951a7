"""Class activation maps: the variants, their registry, and the one place that normalises and resizes maps."""

from fcam_jax.cams.api import compute as compute
from fcam_jax.cams.channels import ISCAM as ISCAM
from fcam_jax.cams.channels import SSCAM as SSCAM
from fcam_jax.cams.channels import AblationCAM as AblationCAM
from fcam_jax.cams.channels import ScoreCAM as ScoreCAM
from fcam_jax.cams.eigencam import EigenCAM as EigenCAM
from fcam_jax.cams.gradients import CAM as CAM
from fcam_jax.cams.gradients import ElementwiseGradCAM as ElementwiseGradCAM
from fcam_jax.cams.gradients import GradCAM as GradCAM
from fcam_jax.cams.gradients import GradCAMPP as GradCAMPP
from fcam_jax.cams.gradients import HiResCAM as HiResCAM
from fcam_jax.cams.gradients import LayerCAM as LayerCAM
from fcam_jax.cams.gradients import SmoothGradCAMPP as SmoothGradCAMPP
from fcam_jax.cams.gradients import XGradCAM as XGradCAM
from fcam_jax.cams.registry import CAMS as CAMS
