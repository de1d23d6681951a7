#!/usr/bin/env bash
# A run on all hosts of a Cloud TPU slice, which is asked for, set up, and, where it is preempted, asked for again:
#   launch/tpu_pod.sh --name=fcam --zone=us-west4-a --type=v5litepod-16 --runtime=v2-alpha-tpuv5-lite --spot \
#       --nfs=10.0.0.2:/runs --delete -- --config=configs/ilsvrc.py --workdir=/mnt/fcam/ilsvrc
#
#   --name=NAME --zone=ZONE --type=TYPE --runtime=VERSION  of the slice; one of this name that is there is used
#   --project=PROJECT  otherwise gcloud's own
#   --spot             cheaper, and may be preempted
#   --nfs=HOST:/SHARE  a Filestore share, put at /mnt/fcam on all hosts
#   --bucket=BUCKET    a Cloud Storage bucket at /mnt/fcam instead, by gcsfuse; with a hierarchical namespace, as
#                      checkpoints are renamed when they are whole
#   --delete           the slice, when the run has ended, however it has ended
#
# A run's folder is one of the file system, not a gs:// address, and all hosts share it: --workdir lies under /mnt/fcam. Data
# may lie there, too. Where this script is interrupted, the same call goes on.
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

name='' zone='' type='' runtime='' project='' spot='' nfs='' bucket='' delete=''
pause=${FCAM_PAUSE:-30} # seconds between two questions to the cloud
while (($#)); do
    case $1 in
        --name=* | --zone=* | --type=* | --runtime=* | --project=* | --nfs=* | --bucket=*)
            option=${1%%=*}
            printf -v "${option#--}" %s "${1#*=}"
            ;;
        --spot) spot=yes ;;
        --delete) delete=yes ;;
        --) shift && break ;;
        *) fail "unknown option $1; what is for the program follows after --" ;;
    esac
    shift
done
for option in name zone type runtime; do
    [[ -n ${!option} ]] || fail "--$option is missing"
done
[[ -z $nfs || -z $bucket ]] || fail "--nfs and --bucket are two ways to the same place; give one"
(($#)) || fail "nothing for the program; its options follow after --"
place=("--zone=$zone" ${project:+"--project=$project"})

slices() { gcloud compute tpus queued-resources "$1" "$name" "${place[@]}" --quiet "${@:2}"; }
state() { slices describe '--format=value(state.state)' 2>/dev/null || echo ABSENT; }
everywhere() { gcloud compute tpus tpu-vm ssh "$name" "${place[@]}" --worker=all --quiet --command="$1"; }

# Wait until the slice is there, and ask for one where it is not, or not any more.
obtain() {
    local now last=''
    while now=$(state) && [[ $now != ACTIVE ]]; do
        [[ $now == "$last" ]] || echo "slice $name: $now"
        last=$now
        case $now in
            ABSENT)
                slices create "--node-id=$name" "--accelerator-type=$type" "--runtime-version=$runtime" \
                    ${spot:+--spot} --async
                ;;
            FAILED | SUSPENDED) slices delete --force ;;
        esac
        sleep "$pause"
    done
}

# Bring the program to all hosts, and the shared folder. Twice does no harm.
prepare() {
    local archive mount=':'
    archive=$(mktemp)
    git ls-files -z | tar --create --gzip --null --files-from=- --file="$archive"
    gcloud compute tpus tpu-vm scp "$archive" "$name:fcam.tar.gz" "${place[@]}" --worker=all --quiet
    rm "$archive"
    if [[ -n $nfs ]]; then
        mount="sudo apt-get install -y -qq nfs-common >/dev/null && sudo mount -t nfs $(printf %q "$nfs") /mnt/fcam"
    elif [[ -n $bucket ]]; then
        mount="sudo chown \$(id -u) /mnt/fcam && gcsfuse --implicit-dirs $(printf %q "$bucket") /mnt/fcam"
    fi
    everywhere "set -e; sudo mkdir -p /mnt/fcam; mountpoint -q /mnt/fcam || { $mount; }
        mkdir -p fcam; tar -xzf fcam.tar.gz -C fcam; cd fcam; export JAX_EXTRA=tpu; source launch/environment.sh; set_up"
}

# The run on all hosts; its status is that of the program, or 255 where a host has not said it.
run() {
    local log status
    log=$(mktemp)
    everywhere "cd fcam && .venv/bin/python -m fcam_jax.main $(printf '%q ' "$@"); echo fcam-status \$?" | tee "$log" || true
    # Of several hosts the highest, but 75, which wants the run to go on, only where all that failed say so.
    status=$(sed -n 's/.*fcam-status \([0-9]*\).*/\1/p' "$log" | sort -n | awk '$1 != 75 && $1 { bad = $1 } { top = $1 }
        END { print NR == 0 ? 255 : bad ? bad : top }')
    rm "$log"
    return "$status"
}

end() { [[ -z $delete ]] || slices delete --force; }
trap end EXIT

while true; do
    obtain
    if prepare; then
        status=0
        run "$@" || status=$?
        ((status == 0)) && exit 0
    else
        status=255
    fi
    sleep "$pause" # a preemption is known a little later than it is felt
    if ((status != 75)) && [[ $(state) == ACTIVE ]]; then
        fail "the run has failed on the slice $name, which has not been preempted"
    fi
    echo "the run goes on"
done
