#!/usr/bin/env bash
# What the pages owe of an accelerator, measured in ten minutes, in a table beside what was estimated without one:
#   benchmarks/on_gpu.sh OUT [--rehearse]
#
# Runs in the repository's root by FCAM_PYTHON, or .venv with the accelerator's JAX (make .venv/.installed-cuda12). Every
# part has a time, and is ended with it; what it has written until then counts. A part that fails does not end the
# others; the exit status is then 1. With torch, torchvision, torchcam and grad-cam installed, CAMs and training are
# held against theirs. ESTIMATES is what `python -m benchmarks.scaling --gpu=... --json=FILE` wrote for the same steps; by
# default those of an H200 that lie in the repository, which stand beside no other device's. --rehearse takes tiny
# networks, for a machine that has the CPU alone.
set -uo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

out=${1:-} rehearse=${2:-}
if [[ -z $out || $out == --* || -n $rehearse && $rehearse != --rehearse ]]; then
    echo "error: give a folder for what is measured, and --rehearse or nothing: benchmarks/on_gpu.sh OUT [--rehearse]" >&2
    exit 2
fi
[[ $out == /* ]] || out=$here/$out # seen from where this was called
mkdir -p "$out" || exit 2
python=${FCAM_PYTHON:-.venv/bin/python}
if ! "$python" -c 'import jax' 2>/dev/null; then
    echo "error: $python has no JAX: make .venv/.installed-cuda12, or name a Python by FCAM_PYTHON" >&2
    exit 2
fi
failed=0

# part NAME SECONDS COMMAND...: what it prints goes to OUT/NAME.log, too.
part() {
    local name=$1 seconds=$2 begun=$SECONDS
    shift 2
    echo "== $name, at most $seconds s"
    timeout --kill-after=10 "$seconds" "$@" 2>&1 | tee "$out/$name.log"
    local status=${PIPESTATUS[0]}
    case $status in
        0) echo "== $name took $((SECONDS - begun)) s" ;;
        124 | 137) echo "== $name: its $seconds s are over; what it has measured counts" ;;
        *)
            echo "== $name failed with status $status: $out/$name.log"
            failed=1
            ;;
    esac
}

epochs=(--config.classifier.epochs=1 --config.fcam.epochs=1 --config.data.batch_size=32)
if [[ -z $rehearse ]]; then
    losses="--sizes=224 --kernels=xla,pallas --strides=4,8"
    steps="--encoders=resnet50 --dtypes=bfloat16,float32 --batches=32,128"
    cams="--encoders=resnet50 --batches=1,32 --seconds=0.5"
    run="--config.model.encoder=resnet50 --config.data.size=224 --config.data.resize=256 --config.data.synthetic.train=4096"
else
    losses="--sizes=32 --count=2 --draws=4 --strides=4"
    steps="--encoders=small --dtypes=float32 --batches=4 --size=64"
    cams="--encoders=resnet50 --cams=cam --batches=1 --size=64 --seconds=0.1"
    run="--config.data.size=32 --config.data.resize=36 --config.data.synthetic.train=64"
fi
torch=''
if "$python" -c 'import torch, torchvision' 2>/dev/null; then
    torch=--torch
fi
# shellcheck disable=SC2086  # each is several words
{
    part losses 90 "$python" -m benchmarks.losses $losses --repeats=3 --json="$out/losses.json"
    part train 270 "$python" -m benchmarks.train $steps $torch --terms --repeats=3 --seconds=1.5 --json="$out/train.json"
    part cams 120 "$python" -m benchmarks.cams $cams --json="$out/cams.json"
    part run 110 "$python" -m fcam_jax.main --config=configs/synthetic.py --workdir="$out/run" $run "${epochs[@]}"
}
part table 10 "$python" -m benchmarks.measured "$out" --estimates="${ESTIMATES:-docs/results/h200.jsonl}"
exit "$failed"
