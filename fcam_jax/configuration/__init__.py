"""The configuration: every key with its default, packaged benchmarks by name, overrides of the command line.

A benchmark is a file with `get_config(args)`, which starts from `defaults()` and says where it differs.
"""

from fcam_jax.configuration.command_line import configuration as configuration
from fcam_jax.configuration.command_line import override as override
from fcam_jax.configuration.components import add_term as add_term
from fcam_jax.configuration.components import choices as choices
from fcam_jax.configuration.components import choose as choose
from fcam_jax.configuration.keys import defaults as defaults
