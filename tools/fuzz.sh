#!/usr/bin/env bash
# fuzz.sh TIME [JOBS]: runs every fuzz target of the repository for TIME, JOBS (2)
# at once. A finding is written to the package's testdata/fuzz and fails the run.
# Now and then go test calls the end of the time itself a failure (golang/go#75804:
# "context deadline exceeded" and no input): that is no finding.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:?usage: fuzz.sh TIME [JOBS]}
jobs=${2:-2}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mapfile -t dirs < <(git ls-files --cached --others --exclude-standard -- '*_test.go' | xargs -r grep -ls '^func Fuzz' | xargs -r -n1 dirname | sort -u)
for dir in "${dirs[@]}"; do
  go test -list '^Fuzz' "./$dir" | { grep '^Fuzz' || true; } | sed "s|^|$dir |"
done >"$work/targets"
[[ -s $work/targets ]] || { echo "fuzz: found no targets" >&2; exit 1; }

one() { # one DIR TARGET
  local log
  log=$(mktemp "$work/log.XXXXXX")
  if go test "./$1" -run '^$' -fuzz "^$2\$" -fuzztime "$time" -parallel 1 >"$log" 2>&1 || time_is_up "$log"; then
    echo "fuzz: $1 $2: $(grep -o 'execs: [0-9]*' "$log" | tail -1)"
  else
    echo "fuzz: $1 $2 FAILED" >&2
    cat "$log" >&2
    return 1
  fi
}

time_is_up() { # time_is_up LOG: the only complaint is that the time is over
  grep -q '^ *context deadline exceeded$' "$1" && ! grep -qE 'Failing input written|panic:|_test\.go:[0-9]+:' "$1"
}
export -f one time_is_up
export work time

# xargs goes on after a failure and reports it with 123.
xargs -P "$jobs" -L 1 bash -euo pipefail -c 'one "$1" "$2"' one <"$work/targets"
echo "fuzz: $(wc -l <"$work/targets") targets, $time each, no finding"
