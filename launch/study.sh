#!/usr/bin/env bash
# The study: latent prediction against pixels, and the additions one by one, by strength of nuisance.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/environment.sh
source launch/environment.sh

usage() {
  cat <<'TEXT'
usage: bash launch/study.sh [--hours H] [--small] [DIR]

Simulates, pretrains and evaluates, the most important first; everything goes to DIR (default: runs/study). DIR/study.html
and DIR/study.md hold what was found, and are written after each cell. Repeated, it goes on where it was.

  --hours H   begins no cell after H hours (default: goes on to the end)
  --small     shows in minutes that all parts work, and decides nothing (default DIR: runs/study-small)

Uses the config study/gpu where there is a GPU and study/laptop elsewhere; EXTRAS=cuda13 installs what a GPU needs.
TEXT
}

hours=0 small='' out=''
while (($#)); do
  case $1 in
    -h | --help) usage; exit ;;
    --hours) hours=${2-}; shift $(($# > 1)) ;;
    --hours=*) hours=${1#*=} ;;
    --small) small=:small ;;
    -*) echo "study.sh: there is no $1; see --help" >&2; exit 2 ;;
    *) if [[ $out ]]; then echo "study.sh: '$1': one DIR is expected; see --help" >&2; exit 2; fi; out=$1 ;;
  esac
  shift
done
if [[ -z $hours ]]; then echo "study.sh: --hours needs a number; see --help" >&2; exit 2; fi
out=${out:-runs/study${small/:/-}}
install "${EXTRAS:-demo}"
large_pages
platform=$(.venv/bin/python -c 'import jax; print(jax.default_backend())')
config=study/laptop$small
if [[ $platform == gpu && ! $small ]]; then config=study/gpu; fi
echo "study: $config on $platform"
exec .venv/bin/python -m surgmotion_jax study run "--config=$config" "--workdir=$out" "--hours=$hours" --workers=2
