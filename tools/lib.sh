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

# start_cluster N: starts N ingesters, and a process of all other services, on free
# ports with one object store, and waits until the latter knows all of them. Sets http,
# its address.
start_cluster() {
  local n=$1 i name join='' gossip=() pids=() https=()
  for ((i = 0; i <= n; i++)); do
    gossip+=("127.0.0.1:$(free_port)")
    join+=${join:+,}${gossip[i]}
  done
  for ((i = 0; i <= n; i++)); do
    name=ingester-$i
    local target=ingester
    if ((i == n)); then
      name=front target=gateway,distributor,querier,compactor
    fi
    http=127.0.0.1:$(free_port)
    start "$work/$name.log" bin/weir --target="$target" --cluster.name="$name" --join="$join" --gossip-listen="${gossip[i]}" \
      --data-dir="$work/$name" --storage.directory="$work/objects" --storage.shared \
      --listen="$http" --grpc-listen="127.0.0.1:$(free_port)"
    pids+=($!) https+=("$http")
    await 30 "$name's gossip" listens "${gossip[i]}" || true # the next finds it at once
  done
  for ((i = 0; i <= n; i++)); do
    if ! await 60 "weir on ${https[i]}" ready "${pids[i]}" "${https[i]}" || ! kill -0 "${pids[i]}" 2>/dev/null; then
      tail -n 20 "$work"/*.log >&2
      return 1
    fi
  done
  await 60 "ingesters that know each other" knows_ingesters "$n"
}

listens() { (exec 3<>"/dev/tcp/${1%:*}/${1##*:}"); } # listens HOST:PORT

knows_ingesters() { # knows_ingesters N
  local members
  members=$(curl -fsS "http://$http/api/v1/admin/members") || return 1
  (($(grep -o '"healthy": *true' <<<"$members" | wc -l) > $1 && $(grep -o '"state": *"active"' <<<"$members" | wc -l) > $1)) # with the front itself
}

ready() { # ready PID ADDRESS
  kill -0 "$1" 2>/dev/null || return 0 # ended: nothing to wait for
  bin/weir healthcheck -url "http://$2/ready"
}
