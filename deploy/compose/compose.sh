#!/usr/bin/env bash
# compose.sh up|down|ARGUMENTS…: docker compose (or docker-compose) on the cluster
# of this directory. up returns when all containers are healthy, down removes the
# cluster and its data.
set -euo pipefail
cd "$(dirname "$0")"

if docker compose version >/dev/null 2>&1; then
  compose=(docker compose)
elif command -v docker-compose >/dev/null; then
  compose=(docker-compose)
else
  echo "neither docker compose nor docker-compose is installed" >&2
  exit 1
fi
export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-weir}
compose+=(--file docker-compose.yaml)

# state prints "NAME STATE HEALTH" of every container.
state() {
  local ids
  ids=$("${compose[@]}" ps -q)
  [[ -n $ids ]] || return 0
  # shellcheck disable=SC2086
  docker inspect --format '{{.Name}} {{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}-{{end}}' $ids
}

await_healthy() {
  local limit=$((SECONDS + ${1:-120})) bad
  while bad=$(state | grep -v ' running \(healthy\|-\)$'); do
    if ((SECONDS >= limit)); then
      printf 'not healthy in time:\n%s\n' "$bad" >&2
      "${compose[@]}" logs --no-color --tail=20 >&2
      return 1
    fi
    sleep 1
  done
}

case ${1:-} in
up)
  "${compose[@]}" up -d --remove-orphans
  await_healthy
  echo "Weir answers at http://127.0.0.1:${WEIR_HTTP_PORT:-3100} and, over gRPC, at 127.0.0.1:${WEIR_GRPC_PORT:-9095}; make down ends it"
  ;;
down)
  "${compose[@]}" down --volumes --remove-orphans --timeout 40
  ;;
healthy)
  await_healthy "${2:-120}"
  ;;
'')
  sed -n '2,4s/^# //p' "$0" >&2
  exit 2
  ;;
*)
  exec "${compose[@]}" "$@"
  ;;
esac
