# shellcheck shell=bash
# Sourced by the scripts beside it: goes to the repository's root, and gives them a Python with the right JAX.
#
#   JAX_EXTRA    the accelerator's extra of JAX, such as cuda12 or tpu; without it JAX has the CPU alone
#   FCAM_PYTHON  a Python that has everything already; nothing is installed then

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

fail() {
    echo "error: $*" >&2
    exit 2
}

# Set python, after it has got the versions that the tests have passed with.
set_up() {
    python=${FCAM_PYTHON:-$PWD/.venv/bin/python}
    if [[ -n ${FCAM_PYTHON:-} ]]; then
        return
    fi
    make .venv/.installed
    if [[ -n ${JAX_EXTRA:-} && .venv/.installed -nt .venv/.installed-$JAX_EXTRA ]]; then
        "$python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "jax[$JAX_EXTRA]"
        touch ".venv/.installed-$JAX_EXTRA"
    fi
}
