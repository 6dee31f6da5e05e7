#!/usr/bin/env bash
# The demo: Weir in one process, a small shop that writes log files, and an agent
# that follows them, until Ctrl-C. Run by make demo.
#
#   DEMO_DIR   keep everything here, and go on from it (default: a temporary directory)
#   DEMO_FOR   end by itself after this many seconds
#   DEMO_HTTP, DEMO_GRPC  the ports (3100, 9095); 0: free ones
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/lib.sh

port() { if [[ $1 == 0 ]]; then free_port; else echo "$1"; fi; }
http=127.0.0.1:$(port "${DEMO_HTTP:-3100}")
grpc=127.0.0.1:$(port "${DEMO_GRPC:-9095}")
dir=${DEMO_DIR:-$work}
mkdir -p "$dir/logs"

for address in "$http" "$grpc"; do
  if (exec 3<>"/dev/tcp/${address/://}") 2>/dev/null; then
    echo "something listens on $address already; DEMO_HTTP and DEMO_GRPC choose other ports" >&2
    exit 1
  fi
done

cat >"$dir/agent.yaml" <<YAML
server: {address: "$grpc"}
external_labels: {env: demo}
positions: {file: "$dir/positions"}
listen: ""
files:
YAML
for app in gateway catalog checkout payments inventory syslog; do
  printf -- '  - {paths: ["%s/logs/%s-*.log"], labels: {app: %s}}\n' "$dir" "$app" "$app" >>"$dir/agent.yaml"
done

echo "starting weir, the shop and the agent; all of it is in $dir"
start "$dir/weir.log" bin/weir --target=all --data-dir="$dir/data" --listen="$http" --grpc-listen="$grpc"
weir=$!
await 30 weir ready "$weir" "$http"
kill -0 "$weir" 2>/dev/null || { tail -n 20 "$dir/weir.log" >&2; exit 1; }
start "$dir/shop.log" bin/weirctl generate --to-files "$dir/logs" --rate 50 --rotate-size 10MB
shop=$!
start "$dir/agent.log" bin/weir-agent --config "$dir/agent.yaml"
agent=$!

answers() { [[ $(bin/weirctl query --addr "$grpc" '{env="demo"}' --since 1h --limit 1 -o raw 2>/dev/null) ]]; }
await 60 "the first lines" answers || { tail -n 20 "$dir"/*.log >&2; exit 1; }

w="bin/weirctl"
[[ $grpc == 127.0.0.1:9095 ]] || w="WEIR_ADDR=$grpc bin/weirctl"
cat <<TEXT

Weir is ready: gRPC on $grpc (and on $http), REST and the Loki API on http://$http.
In another terminal:

  # the newest lines of an application, and all that has "error" in it, live
  $w query '{app="checkout"}' --limit 20
  $w tail '{env="demo"} |~ "(?i)error"'

  # requests a second by status, in steps of ten seconds
  $w query 'sum by (status) (rate({app="gateway"} | pattern "<_>\" <status> <_>" [30s]))' --since 5m --step 10s

  # the same lines over REST and over the Loki API
  curl -sG http://$http/api/v1/query_range --data-urlencode 'query={app="checkout"}' -d limit=3
  curl -sG http://$http/loki/api/v1/query_range --data-urlencode 'query={app="checkout"}' -d limit=3

  # a line of your own
  echo 'hello from me' | $w push --label app=hello
  $w query '{app="hello"}'

  # what runs, and what it counts
  $w status
  curl -s http://$http/metrics

Grafana: add a Loki data source with the URL http://$http.
Ctrl-C ends it all.
TEXT

# Goes on until one of the three ends, or the time is over, or Ctrl-C.
if [[ -n ${DEMO_FOR:-} ]]; then
  start /dev/null sleep "${DEMO_FOR%s}"
  timer=$!
fi
status=0
wait -n -p ended || status=$?
if [[ ${ended:-} == "${timer:-none}" ]]; then
  echo "the demo ends after $DEMO_FOR"
  # What stops must stop well.
  for pid in "$agent" "$shop" "$weir"; do
    kill "$pid"
    wait "$pid" || { echo "did not stop in good order" >&2; tail -n 20 "$dir"/*.log >&2; exit 1; }
  done
  exit 0
fi
for name in weir shop agent; do
  [[ ${ended:-} != "${!name}" ]] || { echo "$name has ended (status $status); its log:" >&2; tail -n 20 "$dir/$name.log" >&2; }
done
exit 1
