#!/usr/bin/env bash
# The runs of a sweep as Slurm jobs, each on one GPU, and their report; called on the login node:
#   launch/slurm_sweep.sh --time=8:00:00 -- --sweep=table1 --workdir=/scratch/me/table1
#
# What stands before -- goes to sbatch, in the form --option=value, for all jobs; what follows is for `fcam sweep`
# (docs/sweeps.md). There are up to three jobs: an array of the runs that need no other, one of those that take the
# classifier of such a run, and the report. What is done is not repeated: the same call goes on where runs have failed.
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

options=()
while (($#)); do
    case $1 in
        --) shift && break ;;
        --*=* | --exclusive | --test-only | --verbose) options+=("$1") ;;
        *) fail "$1: options of sbatch are --option=value; what is for the sweep follows after --" ;;
    esac
    shift
done
workdir=''
for option in "$@"; do
    [[ $option == --workdir=* ]] && workdir=${option#*=}
    [[ $option == -- ]] && break
done
[[ -n $workdir ]] || fail "the sweep needs --workdir=DIR, after --"
JAX_EXTRA=${JAX_EXTRA-cuda12}
set_up

mkdir -p "$workdir"
lists=$(mktemp -d "$workdir/slurm.XXXXXX") # the jobs read it
lists=$(cd "$lists" && pwd)
"$python" -m fcam_jax sweep --print "$@" >"$lists/all"
grep -v '  # needs ' "$lists/all" >"$lists/first" || true
grep '  # needs ' "$lists/all" >"$lists/second" || true

# A list's lines as an array of jobs; prints the job's number.
submit() {
    local lines
    lines=$(wc -l <"$1")
    # shellcheck disable=SC2016  # for the shell of the job
    sbatch --parsable --gpus-per-node=1 --ntasks-per-node=1 "${options[@]}" --chdir="$PWD" --array="1-$lines" "${@:2}" \
        launch/slurm_job.sh bash -c 'eval "exec $(sed -n "${SLURM_ARRAY_TASK_ID}p" "$1")"' line "$1"
}

before=''
for list in first second; do
    if [[ -s $lists/$list ]]; then
        # Not afterok: of those that wait, only the runs whose own classifier has failed shall fail.
        job=$(submit "$lists/$list" ${before:+"--dependency=afterany$before"})
        before+=:${job%%;*}
        echo "$list: $(wc -l <"$lists/$list") run(s) in job ${job%%;*}"
    fi
done
job=$(sbatch --parsable --gpus-per-node=1 --ntasks-per-node=1 "${options[@]}" --chdir="$PWD" \
    ${before:+"--dependency=afterany$before"} launch/slurm_job.sh bash launch/sweep_report.sh "$python" "$workdir" "$@")
echo "report: job ${job%%;*}, into $workdir/report"
