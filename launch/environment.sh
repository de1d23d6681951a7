# shellcheck shell=bash
# Sourced by the scripts beside it: goes to the repository's root, and gives them a Python with the right JAX.
#
#   JAX_EXTRA    the accelerator's extra of JAX: cuda12, cuda13 or tpu; without it JAX has the CPU alone
#   FCAM_PYTHON  a Python that has everything already; nothing is installed then

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

fail() {
    echo "error: $*" >&2
    exit 2
}

# Set python, after it has got the versions that the tests have passed with.
set_up() {
    # shellcheck disable=SC2034  # the scripts that source this use it
    python=${FCAM_PYTHON:-$PWD/.venv/bin/python}
    # What is compiled for an accelerator is kept: a job that is queued again need not wait for it a second time.
    if [[ -n ${JAX_EXTRA:-} ]]; then
        export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR-$PWD/.jax_cache}
    fi
    if [[ -n ${FCAM_PYTHON:-} ]]; then
        return
    fi
    if [[ -n ${JAX_EXTRA:-} && ! -f locked/$JAX_EXTRA.txt ]]; then
        fail "JAX_EXTRA is $JAX_EXTRA; it may be cuda12, cuda13 or tpu (locked/ has their versions), or FCAM_PYTHON names a Python"
    fi
    make ".venv/.installed${JAX_EXTRA:+-$JAX_EXTRA}"
}
