"""What the keys of a configuration mean, for the help of the command line."""

from ml_collections import ConfigDict

from fcam_jax.configuration.flat import flat_settings


def keys_text(config: ConfigDict) -> str:
    """A line for each key."""
    return "\n".join(f"  --config.{key}={value}" for key, value in flat_settings(config.to_dict()))
