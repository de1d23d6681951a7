#!/usr/bin/env bash
# What slurm.sh and slurm_sweep.sh submit: a step of srun, whose options and command are the arguments. Where the command
# ends with status 75 it wants to go on later, and the job is queued again.
#SBATCH --job-name=fcam
#SBATCH --nodes=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
set -uo pipefail

trap : TERM # for the step; this shell lives on to queue the job again
# The processes of a run end together; --wait is for those of which a machine has lost one.
srun --kill-on-bad-exit=0 --wait=90 "$@"
status=$?
if ((status == 75)); then
    scontrol requeue "$SLURM_JOB_ID" && echo "job $SLURM_JOB_ID is queued again"
fi
exit "$status"
