"""The networks: encoders by name, heads, the U-Net decoder, F-CAM, and the import of pretrained weights."""

from typing import Any

from fcam_jax.models.encoders import ENCODERS as ENCODERS

# Further keywords of an encoder under a method that puts other layers on top of it than the classifier that CAMs read.
TOPS: dict[str, dict[str, dict[str, Any]]] = {
    "acol": {"vgg16": {"top": ()}, "inceptionv3": {"top": ()}},
    "spg": {"vgg16": {"top": (512, 512)}},
}
