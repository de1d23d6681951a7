"""The command `fcam`, also as `python -m fcam_jax COMMAND`. Requests to stop are noted before anything else happens."""

import sys

from fcam_jax.runtime import preemption


def main() -> int:
    """Carry out the command line; returns the exit status."""
    preemption.listen()
    from fcam_jax.cli import command

    return command.main()


if __name__ == "__main__":
    sys.exit(main())
