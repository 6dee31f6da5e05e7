#!/usr/bin/env bash
# fresh.sh PATH…: fails if generating has changed what is committed.
set -euo pipefail
cd "$(dirname "$0")/.."
changed=$(git status --porcelain --untracked-files=all -- "$@")
if [[ -n $changed ]]; then
  printf 'generated files differ from the committed ones; run make generate and commit:\n%s\n' "$changed" >&2
  git --no-pager diff --stat -- "$@" >&2
  exit 1
fi
echo "generated files are fresh: $*"
