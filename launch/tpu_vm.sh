#!/usr/bin/env bash
# Pretraining on every host of a TPU slice made of TPU VMs.
set -euo pipefail

if [[ ${1:-} == -h || ${1:-} == --help || $# -lt 2 ]]; then
  cat <<'TEXT'
usage: bash launch/tpu_vm.sh install|run [FLAGS]

  install   copies this checkout to all hosts of the slice and installs it there
  run       runs `surgmotion pretrain FLAGS` on all hosts, which find each other; the same command resumes

The slice: TPU_NAME=... TPU_ZONE=... in the environment; the project is that of your gcloud configuration. Data and
workdir must be visible to all hosts: gs://BUCKET/... or a shared disk, e.g.
  TPU_NAME=my-slice TPU_ZONE=us-east5-a bash launch/tpu_vm.sh run --config=pretrain/surgmotion_vitl:stage1 \
      --data=gs://BUCKET/videos.csv --workdir=gs://BUCKET/runs/first --config.parallel.mesh=auto
TEXT
  [[ ${1:-} == -h || ${1:-} == --help ]] && exit
  [[ ${1:-} == install ]] || exit 2
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
slice=("${TPU_NAME:?name of the slice}" --zone "${TPU_ZONE:?zone of the slice}" --worker all)
case $1 in
  install)
    archive=$(mktemp -d)/surgmotion.tar.gz
    tar -czf "$archive" --exclude .git --exclude .venv --exclude runs --exclude __pycache__ .
    gcloud compute tpus tpu-vm scp "$archive" "${slice[0]}:surgmotion.tar.gz" "${slice[@]:1}"
    gcloud compute tpus tpu-vm ssh "${slice[@]}" --command "mkdir -p surgmotion && tar -xzf surgmotion.tar.gz \
-C surgmotion && cd surgmotion && python3 -m venv .venv && .venv/bin/pip install -q -e '.[tpu]' gcsfs"
    ;;
  run)
    gcloud compute tpus tpu-vm ssh "${slice[@]}" --command "cd surgmotion && .venv/bin/surgmotion pretrain$(printf ' %q' "${@:2}")"
    ;;
  *) echo "tpu_vm.sh: '$1' is neither install nor run; see --help" >&2 && exit 2 ;;
esac
