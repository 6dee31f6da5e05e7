#!/usr/bin/env bash
# Brings up the cluster of docker-compose.yaml as a project of its own, on free
# ports, and proves that it takes the agent's logs, answers over every door, and
# stores, finds and tails what is pushed through the gateway while one of the three
# ingesters is killed and comes back: no push fails, every acknowledged line is there
# once, in order. Then all is flushed into the S3 store and read from there alone.
# Takes it down and leaves nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tools/lib.sh

export COMPOSE_PROJECT_NAME=weir-smoke-$$ WEIR_COMPOSE_OVERRIDE=smoke.yaml
WEIR_HTTP_PORT=$(free_port) WEIR_GRPC_PORT=$(free_port)
export WEIR_HTTP_PORT WEIR_GRPC_PORT WEIR_ADDR=127.0.0.1:$WEIR_GRPC_PORT
gateway=http://127.0.0.1:$WEIR_HTTP_PORT
compose=deploy/compose/compose.sh
ingesters=(ingester-1 ingester-2 ingester-3)

leave() {
  local status=$?
  trap - EXIT
  if ((status != 0)); then
    "$compose" ps >&2 || true
    "$compose" logs --no-color --tail=40 >&2 || true
  fi
  "$compose" down >"$work/down.log" 2>&1 || { cat "$work/down.log" >&2; status=1; }
  (exit "$status")
  cleanup
}
trap leave EXIT

say() { echo "smoke: $SECONDS s: $*"; }
fail() {
  echo "smoke: $*" >&2
  exit 1
}

# push_lines FROM: pushes ten numbered lines every moment until the file stop is
# there; notes in acked which have been acknowledged.
push_lines() {
  local n=$1
  while [[ ! -e $work/stop ]]; do
    seq -f "line %06.0f" "$n" $((n + 9)) >"$work/batch"
    if bin/weirctl push --label app=smoke --timeout 60s <"$work/batch" 2>>"$work/push.err"; then
      cat "$work/batch" >>"$work/acked"
    else
      cat "$work/batch" >>"$work/unsure"
    fi
    n=$((n + 10))
  done
}

container() { docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --filter "label=com.docker.compose.service=$1"; }
found() { bin/weirctl query '{app="smoke"}' --since 1h --forward --limit 0 -o raw; }
acked_lines() { wc -l <"$work/acked"; }
has_acked() { (($(acked_lines) >= $1)); }
tailed_all() { (($(wc -l <"$work/tailed") >= $(acked_lines))); }
has_lines() { [[ $(bin/weirctl query "$1" --since 1h --limit 1 -o raw) ]]; }

# metric SERVICE NAME: the sum of a metric of a process.
metric() {
  local port
  port=$(docker port "$(container "$1")" 3100/tcp | head -n 1)
  curl -fsS "http://127.0.0.1:${port##*:}/metrics" >"$work/metrics"
  awk -v name="$2" '$1 == name || index($1, name "{") == 1 { sum += $NF } END { printf "%.0f\n", sum }' "$work/metrics"
}
# agreed: the gateway, the queriers and the ingesters hold all members for healthy.
agreed() {
  local s
  bin/weirctl status || return 1
  for s in "${ingesters[@]}" querier-1 querier-2; do
    [[ $(metric "$s" 'weir_ring_members{healthy="true",state="active"}') == 9 ]] || return 1
  done
}
holds_no_blocks() { local i; for i in "${ingesters[@]}"; do [[ $(metric "$i" weir_ingester_local_blocks) == 0 ]] || return 1; done; }

# An answer may be refused for a moment, when members have just come or gone.
answer() { found >"$work/found"; }
# compare_found WHEN: what is found is what was acknowledged, once and in order.
compare_found() {
  await 60 "an answer" answer
  if ! diff "$work/acked" "$work/found" >"$work/diff"; then
    head -n 20 "$work/diff" >&2
    fail "$1, what is found differs from what was acknowledged"
  fi
}

say "starting the cluster"
: >"$work/acked"
: >"$work/unsure"
"$compose" up >"$work/up.log" 2>&1 || { cat "$work/up.log" >&2; exit 1; }
await 120 "all members to know each other" agreed
bin/weirctl status

say "pushing and tailing"
start "$work/tailed" bin/weirctl tail '{app="smoke"}' --since 1h --limit 5000 -o raw
start "$work/pushing" push_lines 1
pusher=$!
await 120 "100 acknowledged lines" has_acked 100

say "killing ingester-2 after $(acked_lines) lines"
docker kill "$(container ingester-2)" >/dev/null
before=$(acked_lines)
await 120 "300 lines more without it" has_acked $((before + 300))
await 60 "an answer" answer
missing=$(head -n "$before" "$work/acked" | sort | comm -23 - <(sort "$work/found") | wc -l)
((missing == 0)) || fail "$missing acknowledged lines cannot be found while ingester-2 is away"

say "starting it again after $(acked_lines) lines"
"$compose" start ingester-2 >/dev/null 2>&1
"$compose" healthy 180
await 120 "all members to know each other" agreed
before=$(acked_lines)
await 120 "200 lines more" has_acked $((before + 200))
touch "$work/stop"
wait "$pusher"
[[ ! -s $work/unsure ]] || { tail -n 20 "$work/push.err" >&2; fail "$(wc -l <"$work/unsure") lines could not be pushed"; }

say "comparing $(acked_lines) acknowledged lines with what is found"
compare_found "after the restart"
await 60 "the tail to have all lines" tailed_all
missing=$(sort "$work/acked" | comm -23 - <(sort -u "$work/tailed") | wc -l)
((missing == 0)) || fail "$missing acknowledged lines were not tailed"
[[ -z $(sort "$work/tailed" | uniq -d) ]] || fail "the tail repeated lines"

say "the other doors"
count=$(curl -fsSG "$gateway/loki/api/v1/query" --data-urlencode 'query=sum(count_over_time({app="smoke"}[1h]))')
[[ $count == *"\"$(acked_lines)\""* ]] || fail "the Loki API counts otherwise: $count"
curl -fsSG "$gateway/api/v1/query_range" --data-urlencode 'query={app="smoke"}' -d limit=1 >"$work/rest"
grep -q 'line 0' "$work/rest" || fail "REST finds nothing: $(head -c 300 "$work/rest")"
await 60 "lines of files, from the agent" has_lines '{app="gateway", cluster="compose"}'
await 60 "lines of containers, from the agent" has_lines '{service="ingester-1", cluster="compose"}'
if /usr/bin/python3 -c 'import grpc, grpc_tools' 2>/dev/null; then
  /usr/bin/python3 tests/clients/python/client.py "$WEIR_ADDR"
else
  say "python3-grpcio and python3-grpc-tools are not there: the Python client is left out"
fi

say "flushing into the S3 store, and restarting the ingesters"
for i in "${ingesters[@]}"; do
  docker exec "$(container "$i")" /weirctl flush --timeout 2m
done
blocks() { docker exec "$(container querier-1)" /weirctl blocks "$@" --store 's3://weir?endpoint=s3:7070&insecure=true&path_style=true'; }
blocks list >"$work/blocks"
cat "$work/blocks"
blocks verify
"$compose" restart --timeout 40 "${ingesters[@]}" >/dev/null 2>&1
"$compose" healthy 180
await 120 "all members to know each other" agreed
await 120 "the ingesters to give up what they have uploaded" holds_no_blocks
compare_found "from the store"
opened=$(($(metric querier-1 weir_querier_opened_blocks_total) + $(metric querier-2 weir_querier_opened_blocks_total)))
((opened > 0)) || fail "the queriers have read no block of the store"

say "taking it down"
"$compose" down >"$work/down.log" 2>&1 || { cat "$work/down.log" >&2; exit 1; }
left=$("$compose" left)
[[ -z $left ]] || fail "left behind: $left"
say "passed: $(acked_lines) lines acknowledged, no push failed, all found once and in order, from memory and from the store"
