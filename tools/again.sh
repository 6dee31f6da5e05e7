#!/usr/bin/env bash
# again.sh TARGET: `make TARGET`, a target that runs tests. On a busy machine a test
# that starts processes may miss its moment: the packages that failed are run once
# more, alone, and if they pass then the run passes and names them as unstable, for
# somebody to cure. What is never a matter of luck gets no second chance: a promise
# about data broken, a data race, a panic, a leaked goroutine, a package that does not
# build.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?usage: again.sh TARGET}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

make "$target" 2>&1 | tee "$log" && exit 0

if grep -qE '(lost|duplicate|phantom|corrupt|reorder|differ) [1-9]|DATA RACE|^panic: |unexpected goroutines|\[(build|setup) failed\]' "$log"; then
  exit 1
fi
mapfile -t failed < <(awk -F '\t' '$1 == "FAIL" && $2 != "" { print $2 }' "$log" | sort -u)
((${#failed[@]} > 0 && ${#failed[@]} <= 3)) || exit 1
echo "UNSTABLE: ${failed[*]}; once more, alone"
make "$target" TEST_PACKAGES="${failed[*]}" TEST_FLAGS="${TEST_FLAGS:-} -p=1"
