#!/usr/bin/env bash
# Lints, type-checks and tests, and says what it leaves out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/environment.sh
source launch/environment.sh

usage() {
  cat <<'TEXT'
usage: bash launch/test.sh [--quick | --all] [--oracle] [PYTEST ARGUMENTS]

Makes or reuses .venv, then runs ruff (check and format), mypy and pytest. Needs Python 3.11 or newer.

  --quick    only tests that train nothing and start no process (tests/tiers.py lists the others)
  --all      also the tests marked long (seconds to a minute, listed there too) and slow (minutes each)
  --oracle   also the tests marked oracle, which compare with PyTorch and transformers; installs both first
  others     go to pytest, e.g. tests/models -k rope; your own -m replaces the choice of markers

pytest prints at its end how many tests each marker leaves out, and skipped tests with their reasons. PYTHON=/path/to/python chooses a Python.
TEXT
}

all=no oracle=no quick=no own_marker=no passed=() left_out=()
for argument in "$@"; do
  case $argument in
    -h | --help) usage; exit ;;
    --quick) quick=yes ;;
    --all) all=yes ;;
    --oracle) oracle=yes ;;
    -m*) own_marker=yes passed+=("$argument") ;;
    *) passed+=("$argument") ;;
  esac
done

install test
if [[ $oracle == yes ]]; then install test,torch --constraint launch/oracle-constraints.txt; fi

if [[ $own_marker$all == nono ]]; then left_out+=(long slow); fi
if [[ $own_marker$oracle == nono ]]; then left_out+=(oracle); fi
if [[ $own_marker$quick == noyes ]]; then left_out+=(heavy); fi
expression=''
for marker in ${left_out[@]+"${left_out[@]}"}; do expression+="${expression:+ and }not $marker"; done

failed=()
step() {
  echo "== $1"
  if ! "${@:2}"; then failed+=("$1"); fi
}
python=.venv/bin/python
step "ruff check" $python -m ruff check .
step "ruff format" $python -m ruff format --check .
step "mypy" $python -m mypy
# Most programs here run once or twice: without slow tests, which may time them, optimising machine code does not pay.
if [[ $own_marker == no && $all == no ]]; then export XLA_FLAGS="${XLA_FLAGS:-} --xla_backend_optimization_level=0"; fi
# Whole files go to each process, so that their fixtures are made once; in their own order, so that long files go first.
step "pytest" $python -m pytest -rs -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder ${expression:+-m "$expression"} ${passed[@]+"${passed[@]}"}

if ((${#failed[@]})); then
  echo "== failed: $(IFS=,; echo "${failed[*]}")"
  exit 1
fi
echo "== all passed"
