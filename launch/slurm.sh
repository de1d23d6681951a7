#!/usr/bin/env bash
# A run as a Slurm job, on the GPUs of one or several nodes; called on the login node:
#   launch/slurm.sh --gpus-per-node=4 --nodes=2 --time=8:00:00 -- --config=configs/cub.py --workdir=/scratch/me/cub
#
# What stands before -- goes to sbatch, in the form --option=value; the job's defaults are in slurm_job.sh. Every GPU gets
# a process, as JAX has it under Slurm. --workdir must be a folder that all nodes share. A job that is preempted, or at the
# end of its time, saves its state, is queued again and goes on.
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

options=() gpus=1
while (($#)); do
    case $1 in
        --) shift && break ;;
        --gpus-per-node=*) gpus=${1##*[=:]} ;&
        --*=* | --exclusive | --test-only | --verbose) options+=("$1") ;;
        *) fail "$1: options of sbatch are --option=value; what is for the program follows after --" ;;
    esac
    shift
done
(($#)) || fail "nothing for the program; its options follow after --"
[[ $gpus =~ ^[1-9][0-9]*$ ]] || fail "--gpus-per-node must end in a number"
JAX_EXTRA=${JAX_EXTRA-cuda12}
set_up
# --gpu-bind: a process finds its GPU by its place on the node, so it must see all of them.
exec sbatch --gpus-per-node="$gpus" --ntasks-per-node="$gpus" "${options[@]}" --chdir="$PWD" \
    launch/slurm_job.sh --gpu-bind=none "$python" -m fcam_jax.main "$@"
