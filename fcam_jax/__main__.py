"""`python -m fcam_jax COMMAND`: the same as the command `fcam`."""

import sys

from fcam_jax.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
