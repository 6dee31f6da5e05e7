#!/usr/bin/env bash
# Checks format, vet, staticcheck and the protos. Says all that it finds.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=.cache/tools
failed=0

step() { # step NAME COMMAND…: runs a check, remembers that it failed
  local name=$1
  shift
  echo "lint: $name"
  "$@" || { echo "lint: $name failed" >&2; failed=1; }
}

formatted() {
  local files
  files=$(git ls-files --cached --others --exclude-standard -- '*.go' | xargs -r ls -d 2>/dev/null | xargs -r gofmt -l)
  [[ -z $files ]] || { printf 'not formatted (gofmt -w):\n%s\n' "$files" >&2; return 1; }
}

buf_format() { # what is vendored stays as it came
  "$tools/buf" format --diff --exit-code proto/public && "$tools/buf" format --diff --exit-code proto/internal
}

# The protos are compared with those of the last release, or of origin/main when
# that is behind.
breaking() {
  local base
  base=${BREAKING_BASE:-$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || echo origin/main)}
  if ! git cat-file -e "$base:buf.yaml" 2>/dev/null || [[ $(git rev-parse "$base^{commit}") == $(git rev-parse HEAD) ]]; then
    echo "lint: no earlier version of the protos to compare with (BREAKING_BASE=$base)"
    return 0
  fi
  "$tools/buf" breaking --against ".git#ref=$(git rev-parse "$base^{commit}"),depth=1000"
}

step gofmt formatted
step "go vet" go vet work
step staticcheck "$tools/staticcheck" work
step "buf lint" "$tools/buf" lint
step "buf format" buf_format
step "buf breaking" breaking
exit "$failed"
