# shellcheck shell=bash
# Sourced by the other scripts from the root of the repository: makes .venv and installs the package into it.

# Prints the name of a Python of at least 3.11; $PYTHON, if set, is tried first.
find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3; do
    # Run it rather than look for it: version managers leave names that start nothing.
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  echo "No Python of at least 3.11 found (tried ${PYTHON:+$PYTHON, }python3.13, python3.12, python3.11, python3)." >&2
  echo "Install one, or name it: PYTHON=/path/to/python3 bash $0" >&2
  return 1
}

# Hash of everything that decides what an installation holds.
requirements_hash() {
  .venv/bin/python - "$@" <<'PY'
import hashlib, pathlib, sys

files = ["pyproject.toml", "requirements.txt", "launch/oracle-constraints.txt"]
parts = [pathlib.Path(name).read_bytes() for name in files] + [sys.version.encode(), str(pathlib.Path.cwd()).encode()]
print(hashlib.sha256(b"\0".join(parts + [a.encode() for a in sys.argv[1:]])).hexdigest())
PY
}

# install EXTRAS [PIP ARGUMENTS]: .venv with the package and its extras; quick when nothing has changed.
install() {
  local extras=$1 python stamp wanted
  shift
  if ! .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    python=$(find_python)
    echo "environment: making .venv with $("$python" --version)"
    if ! "$python" -m venv --clear .venv; then
      echo "Could not make .venv; on Debian and Ubuntu the module is in the package python3-venv." >&2
      return 1
    fi
  fi
  stamp=.venv/installed-${extras//,/-}
  wanted=$(requirements_hash "$extras" "$@")
  if [[ $(cat "$stamp" 2>/dev/null) != "$wanted" ]]; then
    echo "environment: installing surgmotion-jax[$extras] into .venv, about a minute"
    .venv/bin/python -m pip install -qq --disable-pip-version-check --editable ".[$extras]" "$@"
    echo "$wanted" >"$stamp"
  fi
}

# Large pages for what XLA allocates anew at each step. On CPUs the kernel otherwise spends a fifth of a step on clearing
# small ones; other C libraries than glibc do not look at it.
large_pages() {
  export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
}
