#!/usr/bin/env bash
# Compares a fresh bin/weir with recorded answers of Loki: the cases of
# tests/conformance, or all of ../shared/conformance (or $CONFORMANCE) where that
# is there: once with the entries in memory, once with all of them in blocks.
# With --cluster there are three ingesters, each of which has a copy of each entry,
# and a process of all other services; at the end the blocks are merged, too.
# Arguments go to the runner, such as -show 50 or -only '^json/'.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/lib.sh

cluster=''
if [[ ${1-} == --cluster ]]; then
  cluster=yes
  shift
fi
suite=${CONFORMANCE:-../shared/conformance}
if [[ -d $suite/cases ]]; then
  args=(-cases "$suite/cases" -data "$suite/data/corpus.jsonl.gz")
else
  echo "conformance: $suite is not there: only the cases of tests/conformance"
  args=(-cases tests/conformance/cases -data tests/conformance/data/own.jsonl.gz)
fi
mkdir -p .cache
go build -o .cache/conformance-runner ./tests/conformance/runner

failed=''
compare() { # compare FLAG…
  .cache/conformance-runner -addr "http://$http" -required tests/conformance/required "${args[@]}" "$@" || failed=yes
}

if [[ $cluster ]]; then
  start_cluster 3
else
  # shellcheck disable=SC2119 # the arguments are the runner's
  start_weir
fi
compare -push "$@"
echo "conformance: once more, from blocks"
curl -fsS -X POST "http://$http/flush"
compare "$@"
if [[ $cluster ]]; then
  echo "conformance: once more, from merged blocks"
  curl -fsS -X POST "http://$http/compact"
  compare "$@"
fi
[[ ! $failed ]]
