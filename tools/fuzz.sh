#!/usr/bin/env bash
# fuzz.sh TIME [JOBS]: runs every fuzz target of the repository for TIME, JOBS (2)
# at once. A package's targets share one program, which is built once. A finding is
# written to the package's testdata/fuzz and fails the run. Now and then the end of the
# time itself is called a failure (golang/go#75804: "context deadline exceeded" and no
# input): that is no finding.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:?usage: fuzz.sh TIME [JOBS]}
jobs=${2:-2}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
corpus=$(go env GOCACHE)/fuzz # where go test keeps what it finds of interest

build() { # build DIR: its program, and DIR, PACKAGE, PROGRAM and TARGET of each target
  local program package
  program=$work/${1//\//-}.test
  package=$(go list "./$1")
  go test -c -fuzz . -o "$program" "./$1"
  (cd "$1" && "$program" -test.list '^Fuzz') | { grep '^Fuzz' || true; } | sed "s|^|$1 $package $program |" >"$program.targets"
}

one() { # one DIR PACKAGE PROGRAM TARGET
  local log
  log=$(mktemp "$work/log.XXXXXX")
  if (cd "$1" && "$3" -test.run '^$' -test.fuzz "^$4\$" -test.fuzztime "$time" -test.fuzzcachedir "$corpus/$2" -test.parallel 1) >"$log" 2>&1 || time_is_up "$log"; then
    echo "fuzz: $1 $4: $(grep -o 'execs: [0-9]*' "$log" | tail -1)"
  else
    echo "fuzz: $1 $4 FAILED" >&2
    cat "$log" >&2
    return 1
  fi
}

time_is_up() { # time_is_up LOG: the only complaint is that the time is over
  grep -q '^ *context deadline exceeded$' "$1" && ! grep -qE 'Failing input written|panic:|_test\.go:[0-9]+:' "$1"
}
export -f build one time_is_up
export work time corpus

# xargs goes on after a failure and reports it with 123.
git ls-files --cached --others --exclude-standard -- '*_test.go' | xargs -r grep -ls '^func Fuzz' | xargs -r -n1 dirname | sort -u |
  xargs -P "$jobs" -L 1 bash -euo pipefail -c 'build "$1"' build
cat "$work"/*.targets >"$work/targets"
[[ -s $work/targets ]] || { echo "fuzz: found no targets" >&2; exit 1; }
xargs -P "$jobs" -L 1 bash -euo pipefail -c 'one "$@"' one <"$work/targets"
echo "fuzz: $(wc -l <"$work/targets") targets, $time each, no finding"
