#!/usr/bin/env bash
# The paper's first table row on one GPU: CUB with ResNet50, CAM and LayerCAM, and F-CAM on each, beside the paper's figures:
#   launch/cub_on_gpu.sh --source=DOWNLOADS --workdir=runs/cub_on_gpu
#
#   --source=DIR     holds CUB_200_2011.tgz and CUBV2.tar, or what they hold (docs/data/cub.md)
#   --workdir=DIR    for the prepared data, the runs and their report
#   --metadata=DIR   of Choe et al.; downloaded otherwise
#   --weights=WHAT   ImageNet weights: a file, or a name; torchvision:resnet50 by default
#   --partial        take a data set of other numbers of images, to rehearse
#
# The four trainings have 50 epochs each. As compiled for an H200 their steps compute for 9 minutes in all, at the least, and
# take 6.8 GB (docs/results/h200.jsonl); data, validation and evaluation come on top. No GPU has run it yet.
#
# What stands after -- are values of the configuration for both runs, as in -- --config.data.batch_size=64. The same call
# goes on where an earlier one was stopped.
set -euo pipefail
here=$PWD
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# A path is seen from where this was called, though it goes on in the repository.
seen() { [[ $1 == /* ]] && echo "$1" || echo "$here/$1"; }

source='' workdir='' weights=torchvision:resnet50 preparing=()
while (($#)); do
    case $1 in
        --source=* | --workdir=* | --weights=*)
            option=${1%%=*}
            printf -v "${option#--}" %s "${1#*=}"
            ;;
        --metadata=*) preparing+=("--metadata=$(seen "${1#*=}")") ;;
        --partial) preparing+=("$1") ;;
        --) shift && break ;;
        *) fail "unknown option $1; values of the configuration follow after --" ;;
    esac
    shift
done
[[ -n $source ]] || fail "--source is missing: the folder of CUB_200_2011.tgz and CUBV2.tar"
[[ -n $workdir ]] || fail "--workdir is missing: the folder for data, runs and report"
source=$(seen "$source") workdir=$(seen "$workdir")
[[ ! -f $here/$weights ]] || weights=$here/$weights
JAX_EXTRA=${JAX_EXTRA-cuda12}
set_up

fcam=("$python" -m fcam_jax)
data=$workdir/data
"${fcam[@]}" prepare --dataset=cub --source="$source" --data_dir="$data" "${preparing[@]}"
runs=()
for cam in cam layercam; do
    run=$workdir/cub-resnet50-$cam
    "${fcam[@]}" train --config="cub:resnet50,$cam" --workdir="$run" --config.model.init="$weights" \
        --config.data.source=tfds --config.data.root="$data" --config.data.tfds=cub_wsol "$@"
    runs+=("--workdir=$run")
done
"${fcam[@]}" report "${runs[@]}" --out="$workdir/report"
sed "/^Table 2/,\$d" "$workdir/report/tables.md" # the others are in the report
