#!/usr/bin/env bash
# One run of several processes on this machine, to try what a cluster will do:
#   launch/local.sh --devices=2 -- --config=configs/synthetic.py --workdir=runs/two
#
#   --processes=N  number of processes, 2 by default
#   --devices=N    devices of each, made of the CPU; without it every process takes all that JAX sees
#   --port=PORT    at which they find each other; by default a free one
#
# A line of output begins with the process's number. SIGTERM and Ctrl-C are passed on as SIGTERM, the second time as
# SIGKILL. The exit status is that of the first process that fails; the others have a minute to end then.
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

processes=2 devices='' port=''
while (($#)); do
    case $1 in
        --processes=*) processes=${1#*=} ;;
        --devices=*) devices=${1#*=} ;;
        --port=*) port=${1#*=} ;;
        --) shift && break ;;
        *) fail "unknown option $1; what is for the program follows after --" ;;
    esac
    shift
done
[[ $processes =~ ^[1-9][0-9]*$ ]] || fail "--processes=$processes is not a number of processes"
set_up
if [[ -n $devices ]]; then
    export JAX_PLATFORMS=cpu XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=$devices"
fi
if [[ -z $port ]]; then
    port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
fi

left=() asked=''
# A shell's background jobs are deaf to SIGINT.
signal=TERM
# shellcheck disable=SC2329  # called by the trap
forward() {
    kill -s "$signal" "${left[@]}" 2>/dev/null || true
    asked=${#left[@]}
    signal=KILL
}
# Before the first process is there: a request that comes while they are started would end this script alone.
trap forward TERM INT

# Ctrl-C reaches all of the terminal's foreground; what prints the output outlives what makes it.
numbered() { trap '' TERM INT && exec sed -u "s/^/[$1] /"; }

for ((i = 0; i < processes; i++)); do
    "$python" -m fcam_jax.main "$@" --coordinator="localhost:$port" --processes="$processes" --process="$i" \
        > >(numbered "$i") 2> >(numbered "$i" >&2) &
    left+=($!)
    if [[ -n $asked ]]; then
        ((${#left[@]} == asked)) || kill -s TERM "$!" 2>/dev/null || true
        break
    fi
done

status=0
while ((${#left[@]} && status == 0)); do
    wait -n "${left[@]}" || true # a signal ends it, too
    running=()
    for pid in "${left[@]}"; do
        if kill -0 "$pid" 2>/dev/null; then
            running+=("$pid")
        else
            wait "$pid" || status=$?
        fi
    done
    left=("${running[@]}")
done
for ((second = 0; second < 60 && ${#left[@]}; second++)); do
    kill -0 "${left[@]}" 2>/dev/null || break
    sleep 1
done
if ((${#left[@]})); then
    kill -s KILL "${left[@]}" 2>/dev/null || true
fi
wait
exit "$status"
