"""F-CAM in JAX: full-resolution class activation maps by guided parametric upscaling."""

__version__ = "0.1.0"
