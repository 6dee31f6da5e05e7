# shellcheck shell=bash
# Shared by the scripts: starting a server of one's own, and ending what was
# started. To be sourced from the repository's root.

work=$(mktemp -d "${TMPDIR:-/tmp}/weir.XXXXXX")
started=()

cleanup() { # ends what was started, last first, and waits for it
  local status=$? i
  trap - EXIT INT TERM
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do
    kill -- "-${started[i]}" 2>/dev/null || true
    wait "${started[i]}" 2>/dev/null || true
  done
  rm -rf "$work"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start LOG COMMAND…: runs a command in the background, in a process group of its
# own: Ctrl-C interrupts the script, which then ends what it started in order. The
# process id is in $!.
start() {
  local log=$1
  shift
  set -m
  "$@" >"$log" 2>&1 </dev/null &
  set +m
  started+=($!)
}

# await SECONDS WHAT COMMAND…: waits until the command succeeds.
await() {
  local limit=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= limit)); then
      echo "timed out waiting for $what" >&2
      return 1
    fi
    sleep 0.2
  done
}

# free_port prints a free port of the loopback interface.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

# start_weir FLAG…: starts bin/weir on free ports with a data directory of its own
# and waits until it is ready. Sets http and grpc, its addresses.
start_weir() {
  http=127.0.0.1:$(free_port)
  grpc=127.0.0.1:$(free_port)
  start "$work/weir.log" bin/weir --target=all --data-dir="$work/data" --listen="$http" --grpc-listen="$grpc" "$@"
  local pid=$!
  if ! await 30 "weir on $http" ready "$pid" "$http" || ! kill -0 "$pid" 2>/dev/null; then
    tail -n 20 "$work/weir.log" >&2
    return 1
  fi
}

ready() { # ready PID ADDRESS
  kill -0 "$1" 2>/dev/null || return 0 # ended: nothing to wait for
  bin/weir healthcheck -url "http://$2/ready"
}
