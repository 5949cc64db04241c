#!/usr/bin/env bash
# Pretraining on this machine, in one process or several.
set -euo pipefail

if [[ ${1:-} == -h || ${1:-} == --help || $# == 0 ]]; then
  cat <<'TEXT'
usage: bash launch/local.sh [--processes N] FLAGS

Runs `surgmotion pretrain FLAGS`, e.g. --config=pretrain/tiny --data=VIDEOS --workdir=runs/mine. One process uses all
devices and is what you want; N processes share the CPU, each as one device, and rehearse a cluster. Ctrl-C saves and
stops; the same command resumes. PYTHON=/path/to/python names the Python to use (default: .venv, then python3).
TEXT
  exit
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}
[[ -x $python ]] || python=python3
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}
count=1
if [[ $1 == --processes ]]; then count=$2; shift 2; fi
if [[ ! $count =~ ^[1-9][0-9]*$ ]]; then echo "local.sh: --processes is '$count'; a whole number is expected" >&2; exit 2; fi
if ((count == 1)); then exec "$python" -m surgmotion_jax pretrain "$@"; fi

export JAX_PLATFORMS=cpu
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
children=() status=0
trap 'kill -TERM "${children[@]}" 2>/dev/null || true' INT TERM
for ((i = 0; i < count; i++)); do
  "$python" -m surgmotion_jax pretrain "$@" --config.distributed.coordinator="127.0.0.1:$port" \
    --config.distributed.processes="$count" --config.distributed.process="$i" &
  children+=($!)
done
for child in "${children[@]}"; do
  until wait "$child" || ! kill -0 "$child" 2>/dev/null; do :; done # a signal interrupts the wait, not the child
  wait "$child" || status=$?
done
exit "$status"
