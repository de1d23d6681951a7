"""From the part of a ConfigDict that describes F-CAM's loss to its settings; for `build.py`."""

from ml_collections import ConfigDict

from fcam_jax.errors import InputError
from fcam_jax.losses.constraints import CONSTRAINTS, Constraint, default_settings
from fcam_jax.losses.pixel_alignment import OFF, CrfTerm, PixelAlignment, Term


def alignment(loss: ConfigDict) -> PixelAlignment:
    """Settings of the pixel alignment loss.

    Raises:
      InputError: for a weight below 0, epochs in which a term cannot count, or another setting outside its range.
    """
    for name, settings in loss.items():
        _check_term(f"fcam.loss.{name}", settings)
    return PixelAlignment(
        seeds=term(loss, "seeds"),
        crf=CrfTerm(**loss.crf),
        size=term(loss, "size"),
        barrier_start=loss.size.barrier_start,
        barrier_rate=loss.size.barrier_rate,
        barrier_limit=loss.size.barrier_limit,
        constraints=tuple(
            (name, term(loss, name), _constraint(name, loss[name])) for name in CONSTRAINTS if name in loss
        ),
        entropy=term(loss, "entropy"),
    )


def term(loss: ConfigDict, name: str) -> Term:
    """Weight and epochs of a term; one that is absent is off."""
    if name not in loss:
        return OFF
    settings = loss[name]
    return Term(weight=settings.weight, start_epoch=settings.start_epoch, end_epoch=settings.end_epoch)


def _check_term(key: str, settings: ConfigDict) -> None:
    if not settings.weight >= 0:
        raise InputError(f"{key}.weight is {settings.weight}; it must be 0 (off) or more")
    if settings.end_epoch is not None and settings.end_epoch <= settings.start_epoch:
        raise InputError(
            f"{key}.end_epoch is {settings.end_epoch}; it must be after start_epoch, which is {settings.start_epoch} "
            f"({key}.weight=0 leaves the term out)"
        )


def _constraint(name: str, settings: ConfigDict) -> Constraint:
    return CONSTRAINTS[name](**{key: settings[key] for key in default_settings(name)})
