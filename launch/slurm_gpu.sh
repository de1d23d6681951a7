#!/usr/bin/env bash
# One run on all GPUs of one Slurm node. From the repository's root:
#   sbatch launch/slurm_gpu.sh --config=configs/cub.py --workdir=/scratch/$USER/cub --config.data.root=/data/CUB
# A preempted job is queued again and goes on from its last checkpoint.
#SBATCH --job-name=fcam
#SBATCH --nodes=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
make .venv/.installed
.venv/bin/python -m pip install --quiet --constraint constraints.txt 'jax[cuda12]'
exec srun .venv/bin/python -m fcam_jax.main "$@"
