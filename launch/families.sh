#!/usr/bin/env bash
# Six task families on simulated operations: SurgMotion against plain V-JEPA and random weights.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/environment.sh
source launch/environment.sh

usage() {
  cat <<'TEXT'
usage: bash launch/families.sh [--random] [DIR]

Simulates six data sets, pretrains encoders on simulated videos, evaluates them, and compares them; everything goes to
DIR (default: runs/families), what the programs say to DIR/log.txt. Repeated, it goes on where it was.

  --random   one encoder of random weights on the six families, and nothing more

SEEDS='0 1 2' are the seeds of encoders and heads, JOBS=2 how many programs run at once.
TEXT
}

random=no
case ${1-} in
  -h | --help) usage; exit ;;
  --random) random=yes; shift ;;
esac
out=${1:-runs/families} jobs=${JOBS:-2} methods=(surgmotion vjepa random)
read -ra seeds <<<"${SEEDS:-0 1 2}"
if [[ $random == yes ]]; then methods=(random) seeds=(0); fi
if (($# > 1)) || [[ $out$jobs${seeds[*]} == *[!A-Za-z0-9._/\ -]* || $out == *[\ ]* ]]; then
  echo "families.sh: '$*': at most one DIR is expected, of letters, digits and ._/- without spaces; see --help" >&2
  exit 2
fi
install demo
large_pages
mkdir -p "$out"

# Runs the lines of its input, each the arguments of a program.
stage() {
  echo "== $1 ($((SECONDS / 60)) min $((SECONDS % 60)) s)"
  # shellcheck disable=SC2016 # for the shells that xargs starts
  xargs -P "$jobs" -L 1 bash -c 'echo "$@"; .venv/bin/python -m surgmotion_jax "$@" >>"$0" 2>&1 || exit 255' "$out/log.txt" ||
    { echo "families.sh: failed; the reason is at the end of $out/log.txt" >&2; exit 1; }
}

# A set is simulated aside, so that one that is there is whole.
simulate() {
  if [[ -e $out/$1 ]]; then return; fi
  rm -rf "$out/part/$1"
  echo "simulate --layout=$1 --out=$out/part/$1 --size=96 --workers=1 --no-preview ${*:2}"
}
{ # at least 20 test cases each
  if [[ $random == no ]]; then simulate pretrain --cases=40 --minutes=0.75 --fps=8 --seed=2; fi
  simulate cholec80 --cases=40 --minutes=6 --fps=1 --seed=1
  simulate surgicalactions160 --cases=160 --minutes=0.08 --seed=1
  simulate cholect50 --cases=25 --minutes=0.34 --seed=1
  simulate jigsaws --cases=103 --minutes=0.13 --seed=1
  simulate polyp_segmentation --cases=600 --minutes=0.02 --seed=1
  simulate c3vd --cases=80 --minutes=0.2 --seed=1
} | stage simulate
for made in "$out"/part/*; do if [[ -e $made ]]; then mv "$made" "$out/"; fi; done

if [[ $random == no ]]; then
  for seed in "${seeds[@]}"; do
    echo "pretrain --config=pretrain/simulated:vjepa --config.seed=$seed --data=$out/pretrain --workdir=$out/vjepa-$seed"
    echo "pretrain --config=pretrain/simulated --config.seed=$seed --data=$out/pretrain --workdir=$out/surgmotion-$seed"
  done | stage pretrain
fi

# Protocols that pool folds have every case as a test case once. Five times 300 windows of triplets see fewer epochs.
tasks=(cholec80:official surgicalactions160:folds jigsaws:loso polyp_segmentation:pranet c3vd:table cholect50:crossval)
epochs() {
  case $1 in
    cholect50:*) echo " --config.sweep.epochs=8" ;;
    polyp_segmentation:*) echo " --config.sweep.epochs=60" ;; # 15 steps each
  esac
}
compared=()
for task in "${tasks[@]}"; do
  for method in "${methods[@]}"; do
    column=("${seeds[@]/#/$out/results/${task%:*}/$method-}")
    compared+=("$(IFS=,; echo "${column[*]}")")
    for seed in "${seeds[@]}"; do
      encoder=$out/$method-$seed
      if [[ $method == random ]]; then encoder=random:vit_nano:$seed; fi
      echo "evaluate --config=evaluate/${task%:*}:small --protocol=${task#*:} --config.sweep.seed=$seed$(epochs "$task")" \
        "--checkpoint=$encoder --root=$out/${task%:*} --workdir=$out/results/${task%:*}/$method-$seed"
    done
  done
done > "$out/evaluations.txt"
stage evaluate <"$out/evaluations.txt"
if [[ $random == no ]]; then
  .venv/bin/python -m surgmotion_jax compare "${compared[@]}" --out="$out/compare.html" | tee "$out/compare.txt"
fi
echo "== done ($((SECONDS / 60)) min $((SECONDS % 60)) s)"
