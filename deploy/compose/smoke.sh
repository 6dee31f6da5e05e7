#!/usr/bin/env bash
# Brings up the cluster of docker-compose.yaml as a project of its own, on free
# ports, and proves that it stores, finds and tails what is pushed through the
# gateway while one of the three ingesters is killed and comes back: every
# acknowledged line is there once, in order. Takes it down and leaves nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tools/lib.sh

export COMPOSE_PROJECT_NAME=weir-smoke-$$
WEIR_HTTP_PORT=$(free_port) WEIR_GRPC_PORT=$(free_port)
export WEIR_HTTP_PORT WEIR_GRPC_PORT WEIR_ADDR=127.0.0.1:$WEIR_GRPC_PORT
compose=deploy/compose/compose.sh

leave() {
  local status=$?
  trap - EXIT
  if ((status != 0)); then
    "$compose" logs --no-color --tail=40 >&2 || true
  fi
  "$compose" down >"$work/down.log" 2>&1 || { cat "$work/down.log" >&2; status=1; }
  (exit "$status")
  cleanup
}
trap leave EXIT

say() { echo "smoke: $*"; }
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
    if bin/weirctl push --label app=smoke --timeout 30s <"$work/batch" 2>>"$work/push.err"; then
      cat "$work/batch" >>"$work/acked"
    else
      cat "$work/batch" >>"$work/unsure"
    fi
    n=$((n + 10))
  done
}

found() { bin/weirctl query '{app="smoke"}' --since 1h --forward --limit 0 -o raw; }
acked_lines() { wc -l <"$work/acked"; }
has_acked() { (($(acked_lines) >= $1)); }
tailed_all() { (($(wc -l <"$work/tailed") >= $(acked_lines))); }

say "starting the cluster"
: >"$work/acked"
: >"$work/unsure"
"$compose" up >"$work/up.log" 2>&1 || { cat "$work/up.log" >&2; exit 1; }
await 60 "all members to be healthy" bin/weirctl status
bin/weirctl status

say "pushing and tailing"
start "$work/tailed" bin/weirctl tail '{app="smoke"}' --since 1h --limit 5000 -o raw
start "$work/pushing" push_lines 1
pusher=$!
await 30 "100 acknowledged lines" has_acked 100

say "killing ingester-2 after $(acked_lines) lines"
"$compose" kill -s KILL ingester-2 >/dev/null 2>&1
before=$(acked_lines)
await 60 "500 lines more without it" has_acked $((before + 500))
found >"$work/found"
missing=$(head -n "$before" "$work/acked" | sort | comm -23 - <(sort "$work/found") | wc -l)
((missing == 0)) || fail "$missing acknowledged lines cannot be found while ingester-2 is away"

say "starting it again after $(acked_lines) lines"
"$compose" start ingester-2 >/dev/null 2>&1
"$compose" healthy 120
before=$(acked_lines)
await 60 "200 lines more" has_acked $((before + 200))
touch "$work/stop"
wait "$pusher"

say "comparing $(acked_lines) acknowledged lines with what is found"
found >"$work/found"
uniq -d "$work/found" >"$work/twice"
[[ ! -s $work/twice ]] || fail "found twice: $(head -n 3 "$work/twice")"
# Without those of which nobody knows, the found lines are the acknowledged ones.
if ! diff <(grep -vFxf "$work/unsure" "$work/acked" || true) <(grep -vFxf "$work/unsure" "$work/found" || true) >"$work/diff"; then
  head -n 20 "$work/diff" >&2
  fail "what is found differs from what was acknowledged"
fi
await 30 "the tail to have all lines" tailed_all
missing=$(sort "$work/acked" | comm -23 - <(sort -u "$work/tailed") | wc -l)
((missing == 0)) || fail "$missing acknowledged lines were not tailed"
[[ -z $(sort "$work/tailed" | uniq -d) ]] || fail "the tail repeated lines"

say "the other doors"
count=$(curl -fsG "http://127.0.0.1:$WEIR_HTTP_PORT/loki/api/v1/query" --data-urlencode 'query=sum(count_over_time({app="smoke"}[1h]))')
[[ $count == *"\"$(wc -l <"$work/found")\""* ]] || fail "the Loki API counts otherwise: $count"
curl -fsG "http://127.0.0.1:$WEIR_HTTP_PORT/api/v1/query_range" --data-urlencode 'query={app="smoke"}' -d limit=1 | grep -q 'line 0' || fail "REST finds nothing"
await 30 "lines of the agent" bash -c '[[ $(bin/weirctl query "{app=\"gateway\", cluster=\"compose\"}" --since 1h --limit 1 -o raw) ]]'
if /usr/bin/python3 -c 'import grpc, grpc_tools' 2>/dev/null; then
  /usr/bin/python3 tests/clients/python/client.py "$WEIR_ADDR"
else
  say "python3-grpcio and python3-grpc-tools are not there: the Python client is left out"
fi

say "taking it down"
"$compose" down >"$work/down.log" 2>&1 || { cat "$work/down.log" >&2; exit 1; }
left=$(docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME"; docker volume ls -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME"; docker network ls -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")
[[ -z $left ]] || fail "left behind: $left"
say "passed: $(acked_lines) lines acknowledged, $(wc -l <"$work/unsure") unsure, all acknowledged ones found once and in order"
