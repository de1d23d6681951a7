"""From the part of a ConfigDict that describes F-CAM's loss to its terms; for `build.py`."""

from ml_collections import ConfigDict

from fcam_jax.component import at_key
from fcam_jax.losses import LOSSES, PixelAlignment, Weighted

OF_EVERY_TERM = ("weight", "start", "end")


def alignment(loss: ConfigDict) -> PixelAlignment:
    """The pixel alignment loss, its terms in the order of `LOSSES`; one that is absent is off.

    Raises:
      InputError: for a term that does not exist, a weight below 0, an end that is not after the start, or another
        setting outside its range.
    """
    for name in loss:
        LOSSES[name]  # an unknown name is told
    terms = {}
    for name, component in LOSSES.items():
        if name in loss:
            settings = loss[name].to_dict()
            schedule = {key: settings.pop(key) for key in OF_EVERY_TERM}
            with at_key(f"config.fcam.loss.{name}."):
                terms[name] = Weighted(component(**settings), **schedule)
    return PixelAlignment(terms)
