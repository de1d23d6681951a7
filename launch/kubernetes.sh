#!/usr/bin/env bash
# A run on Kubernetes, on one node as a Job, on several as a JobSet:
#   launch/kubernetes.sh --name=cub --image=REGISTRY/fcam --claim=runs --gpus=4 [--nodes=2] -- \
#       --config=configs/cub.py --config.data.root=/mnt/fcam/CUB --workdir=/mnt/fcam/runs/cub
#
#   --name=NAME     of the Job or JobSet
#   --image=IMAGE   made of launch/Dockerfile: docker build --file launch/Dockerfile --build-arg JAX_EXTRA=cuda12 --tag IMAGE .
#   --claim=CLAIM   a PersistentVolumeClaim, put at /mnt/fcam; of several nodes it must be ReadWriteMany
#   --gpus=N        of each node; 1 by default
#   --nodes=N       1 by default
#   --tpu=TYPE --topology=AxB  a TPU slice of GKE (such as tpu-v5-lite-podslice, 4x4) in place of GPUs, whose --nodes each have
#                   --gpus chips
#   --print         the manifest, and apply nothing
#   --namespace=N, --context=C  of kubectl
#
# To go on with a run that has ended, delete its Job or JobSet and give the same call.
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

name='' image='' claim='' gpus=1 nodes=1 tpu='' topology='' only_print='' kubectl=()
while (($#)); do
    case $1 in
        --name=* | --image=* | --claim=* | --gpus=* | --nodes=* | --tpu=* | --topology=*)
            option=${1%%=*}
            printf -v "${option#--}" %s "${1#*=}"
            ;;
        --namespace=* | --context=*) kubectl+=("$1") ;;
        --print) only_print=yes ;;
        --) shift && break ;;
        *) fail "unknown option $1; what is for the program follows after --" ;;
    esac
    shift
done
[[ $name =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] || fail "--name=$name must be small letters, digits and -, at most 40"
[[ -n $image && -n $claim ]] || fail "--image and --claim are needed"
[[ $gpus =~ ^[1-9][0-9]*$ && $nodes =~ ^[1-9][0-9]*$ ]] || fail "--gpus and --nodes are whole numbers above 0"
[[ (-n $tpu && -n $topology) || -z $tpu$topology ]] || fail "--tpu and --topology belong together"
(($#)) || fail "nothing for the program; its options follow after --"

# A JSON string, which is a YAML one, too.
quoted() {
    local text=${1//\\/\\\\}
    text=${text//\"/\\\"}
    text=${text//$'\n'/\\n}
    text=${text//$'\t'/\\t}
    [[ $text != *[[:cntrl:]]* ]] || fail "an argument holds a control character"
    printf '"%s"' "$text"
}

args=''
for argument in "$@"; do
    # Kubernetes puts variables in the place of $(NAME), and $ in that of $$.
    args+=$(quoted "${argument//\$/\$\$}"),
done
resource=nvidia.com/gpu selector='{}'
if [[ -n $tpu ]]; then
    resource=google.com/tpu # whose hosts JAX finds by itself
    tpu=$(quoted "$tpu")
    topology=$(quoted "$topology")
    selector="{cloud.google.com/gke-tpu-accelerator: $tpu, cloud.google.com/gke-tpu-topology: $topology}"
elif ((nodes > 1)); then
    args+="\"--coordinator=$name-hosts-0-0.$name:8476\",\"--processes=$nodes\",\"--process=\$(JOB_COMPLETION_INDEX)\","
fi

file=launch/kubernetes/job.yaml
((nodes == 1)) || file=launch/kubernetes/jobset.yaml
claim=$(quoted "$claim")
image=$(quoted "$image")
declare -A values=(
    [NAME]=$name [NODES]=$nodes [COUNT]=$gpus [RESOURCE]=$resource [SELECTOR]=$selector
    [CLAIM]=$claim [IMAGE]=$image [ARGS]="[${args%,}]"
)
# From left to right, so that what is filled in is never looked at again.
manifest='' rest=$(<"$file")
while [[ $rest =~ @([A-Z]+)@ ]]; do
    manifest+=${rest%%"${BASH_REMATCH[0]}"*}${values[${BASH_REMATCH[1]}]}
    rest=${rest#*"${BASH_REMATCH[0]}"}
done
manifest+=$rest
if [[ -n $only_print ]]; then
    printf '%s\n' "$manifest"
else
    printf '%s\n' "$manifest" | kubectl "${kubectl[@]}" apply --filename=-
fi
