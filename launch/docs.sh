#!/usr/bin/env bash
# Builds the documentation site; a warning, such as a broken link, ends the build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/environment.sh
source launch/environment.sh

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  echo "usage: bash launch/docs.sh [serve]    builds the site into .site, or serves it on localhost while you write"
  exit
fi

install test
export NO_MKDOCS_2_WARNING=1 # of a major version that the pinned one is not
if [[ ${1:-} == serve ]]; then exec .venv/bin/python -m mkdocs serve --strict -f .mkdocs.yml; fi
.venv/bin/python -m mkdocs build --strict -f .mkdocs.yml
echo "Done: .site/index.html"
