"""F-CAM in JAX: full-resolution class activation maps by guided parametric upscaling.

    import fcam_jax as fc

What is named here is the public face; it is loaded when it is first used, so that the import alone costs nothing.
"""

import importlib

TYPE_CHECKING = False  # typing itself takes longer than all of this
if TYPE_CHECKING:
    from fcam_jax import cams as cams
    from fcam_jax import losses as losses
    from fcam_jax import models as models
    from fcam_jax import seeds as seeds
    from fcam_jax.data.classes import imagenet_classes as imagenet_classes
    from fcam_jax.errors import InputError as InputError
    from fcam_jax.evaluation import faithfulness as faithfulness
    from fcam_jax.evaluation.arrays import evaluate_arrays as evaluate
    from fcam_jax.models.create import create_model as create_model
    from fcam_jax.models.create import list_models as list_models
    from fcam_jax.runs.job import train_and_evaluate as train
    from fcam_jax.runs.prediction.public import load as load
    from fcam_jax.runs.prediction.public import show as show

__version__ = "0.2.0"

# Name -> where it is, and what it is called there.
_PUBLIC = {
    "create_model": "fcam_jax.models.create:create_model",
    "list_models": "fcam_jax.models.create:list_models",
    "imagenet_classes": "fcam_jax.data.classes:imagenet_classes",
    "load": "fcam_jax.runs.prediction.public:load",
    "show": "fcam_jax.runs.prediction.public:show",
    "evaluate": "fcam_jax.evaluation.arrays:evaluate_arrays",
    "faithfulness": "fcam_jax.evaluation.faithfulness",
    "train": "fcam_jax.runs.job:train_and_evaluate",
    "InputError": "fcam_jax.errors:InputError",
    "cams": "fcam_jax.cams",
    "losses": "fcam_jax.losses",
    "models": "fcam_jax.models",
    "seeds": "fcam_jax.seeds",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fcam_jax' has no attribute {name!r}; there: {', '.join(_PUBLIC)}")
    module, _, inner = _PUBLIC[name].partition(":")
    found = importlib.import_module(module)
    return getattr(found, inner) if inner else found


def __dir__() -> list[str]:
    return sorted(__all__)
