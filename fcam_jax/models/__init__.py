"""The networks: encoders by name, heads, the U-Net decoder, F-CAM, and the import of pretrained weights."""

from fcam_jax.models.classifier import Classifier as Classifier
from fcam_jax.models.create import create_model as create_model
from fcam_jax.models.create import list_models as list_models
from fcam_jax.models.decoder import Decoder as Decoder
from fcam_jax.models.encoders import ENCODERS as ENCODERS
from fcam_jax.models.fcam import FCAM as FCAM
from fcam_jax.models.heads import HEADS as HEADS
