"""What a wheel holds: the packages, and `configs/` as `fcam_jax.configs`; the rest is in pyproject.toml."""

from setuptools import find_namespace_packages, setup

CONFIGS = {"fcam_jax.configs": "configs", "fcam_jax.configs.sweeps": "configs/sweeps"}

setup(packages=[*find_namespace_packages(include=["fcam_jax*"]), *CONFIGS], package_dir=CONFIGS)
