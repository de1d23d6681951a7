#!/usr/bin/env bash
# The last job of a sweep: sweep_report.sh PYTHON WORKDIR [arguments of `fcam sweep`]. Tables and report of all runs; where
# some have failed it does not run them again, but names them, and reports on the others.
set -euo pipefail
python=$1 workdir=$2
shift 2
missing=$("$python" -m fcam_jax sweep --print "$@")
if [[ -z $missing ]]; then
    exec "$python" -m fcam_jax sweep "$@"
fi
done_runs=()
for results in "$workdir"/*/results.json; do
    if [[ -e $results ]]; then
        done_runs+=("--workdir=$(dirname "$results")")
    fi
done
if ((${#done_runs[@]})); then
    "$python" -m fcam_jax.main --mode=report "${done_runs[@]}" --out="$workdir/report"
fi
printf 'not done; the same call of slurm_sweep.sh goes on:\n%s\n' "$missing" >&2
exit 1
