"""What a wheel holds, and what it needs: the packages, and `configs/` as `fcam_jax.configs`; the libraries of
requirements.txt, of which those that not everybody needs are extras. The rest is in pyproject.toml.
"""

import pathlib
import re

from setuptools import find_namespace_packages, setup

CONFIGS = {"fcam_jax.configs": "configs", "fcam_jax.configs.sweeps": "configs/sweeps"}
# `fcam_jax.errors.extra` tells of them where one is absent.
EXTRAS = {
    "coco": ("pycocotools",),  # masks as COCO writes them
    "demo": ("gradio",),  # fcam demo
    "hub": ("huggingface_hub",),  # weights by name, from Hugging Face
    "onnx": ("onnx",),  # fcam export --format=onnx
    "tensorboard": ("tensorboardX",),  # a run's figures as TensorBoard events, too
    "tfds": ("tensorflow-datasets", "importlib_resources"),  # data.source=tfds, fcam prepare
}

lines = (pathlib.Path(__file__).parent / "requirements.txt").read_text(encoding="utf-8").splitlines()
needed = {re.split("[<>=]", line)[0]: line for line in lines if line and not line.startswith("#")}
extras = {extra: [needed.pop(name) for name in names] for extra, names in EXTRAS.items()}

setup(
    packages=[*find_namespace_packages(include=["fcam_jax*"]), *CONFIGS],
    package_dir=CONFIGS,
    install_requires=[*needed.values()],
    extras_require={**extras, "all": [line for these in extras.values() for line in these]},
)
